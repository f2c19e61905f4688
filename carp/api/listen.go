package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Listener is a unix socket that belongs to one daemon at a time.
type Listener struct {
	*net.UnixListener
	path string
	lock *os.File
}

// Listen makes the socket, mode 0660. A socket that a dead daemon left is
// replaced; while another daemon lives it is an error. It needs no clean-up by
// anybody: the lock ends with the process.
func Listen(path string) (_ *Listener, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of control socket: %w", err)
	}
	l := &Listener{path: path}
	if l.lock, err = os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600); err != nil {
		return nil, fmt.Errorf("lock control socket: %w", err)
	}
	defer func() {
		if err != nil {
			l.lock.Close()
		}
	}()
	if err := unix.Flock(int(l.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("listen on %s: another carpd is running", path)
		}
		return nil, fmt.Errorf("lock control socket: %w", err)
	}
	// Under another name until its mode is right.
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	if l.UnixListener, err = net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"}); err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(next, 0o660); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		l.UnixListener.Close()
		return nil, fmt.Errorf("place control socket: %w", err)
	}
	return l, nil
}

// Release removes the socket and lets another daemon have it.
func (l *Listener) Release() {
	l.UnixListener.Close()
	_ = os.Remove(l.path)
	l.lock.Close()
}
