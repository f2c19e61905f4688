package keying

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// process finds the daemon's main process, which stays what it is until done
// is called, as far as that can be had.
func (l *Local) process(ctx context.Context, d Daemon, p Place) (pid int, done func(), err error) {
	if p.PIDFile == "" {
		conn, err := l.Dial(ctx, d)
		if err != nil {
			return 0, nil, err
		}
		if pid, err = peerPID(conn); err != nil {
			conn.Close()
			return 0, nil, fmt.Errorf("find process of %s: %w", d, err)
		}
		return pid, func() { conn.Close() }, nil
	}
	b, err := os.ReadFile(p.PIDFile)
	if err == nil {
		if pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil || pid < 2 {
			return 0, nil, fmt.Errorf("find process of %s: %s does not have a process number", d, p.PIDFile)
		}
		if comm, _, cerr := identify(pid); cerr != nil || !slices.Contains(p.Comms, comm) {
			err = fs.ErrNotExist // left by one that has died
		}
	}
	if absent(err) {
		err = fmt.Errorf("%w (%s)", ErrNotRunning, p.PIDFile)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("find process of %s: %w", d, err)
	}
	l.tell(d, p)
	return pid, func() {}, nil
}

// instance names the process that runs, so that one that was replaced between
// two looks is told from one that went on.
func (l *Local) instance(ctx context.Context, d Daemon, p Place) (string, error) {
	pid, done, err := l.process(ctx, d, p)
	if err != nil {
		return "", err
	}
	defer done()
	st, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNotRunning, err)
	}
	return fmt.Sprintf("%d since %d", pid, st.ModTime().UnixNano()), nil
}

// Kill implements Privileged. The processes are those of the daemon's own
// control socket, whoever else bears the same name.
func (l *Local) Kill(ctx context.Context, d Daemon) error {
	p, err := l.place(d)
	if err != nil {
		return err
	}
	pid, done, err := l.process(ctx, d, p)
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer done()
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, pid := range family(pid, p) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // gone already
		}
		fds = append(fds, fd)
	}
	if len(fds) == 0 {
		return fmt.Errorf("kill %s: process %d is none of %q", d, pid, p.Comms)
	}
	// Stopped first: one that saw another die would clean up after itself. The
	// parent dies last: its death wakes stopped children whose process groups it
	// leaves orphaned (setpgid(2)).
	for _, sig := range []syscall.Signal{unix.SIGSTOP, unix.SIGKILL} {
		for _, fd := range fds {
			if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill %s: %w", d, err)
			}
		}
	}
	for _, fd := range fds {
		if err := waitPidfd(ctx, fd); err != nil {
			return fmt.Errorf("wait for the end of %s: %w", d, err)
		}
	}
	return nil
}

func peerPID(conn net.Conn) (int, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET,
			unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return int(cred.Pid), nil
}

// family returns pid, if it is a process of the daemon, and if the daemon is
// several, its parent and siblings or its children; the parent comes last. Those
// of OpenIKED are in process groups of their own, so these do not tell.
func family(pid int, p Place) []int {
	comm, parent, err := identify(pid)
	if err != nil || !slices.Contains(p.Comms, comm) {
		return nil
	}
	if !p.Many {
		return []int{pid}
	}
	first := pid
	if c, _, err := identify(parent); err == nil && slices.Contains(p.Comms, c) {
		first = parent
	}
	var pids []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []int{pid}
	}
	for _, e := range entries {
		other, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if c, parent, err := identify(other); err == nil && parent == first && slices.Contains(p.Comms, c) {
			pids = append(pids, other)
		}
	}
	return append(pids, first)
}

// identify returns a process's name and parent (proc(5), /proc/PID/stat).
func identify(pid int) (comm string, parent int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, err
	}
	// The name is in parentheses and may have any character.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return "", 0, fmt.Errorf("read /proc/%d/stat: no name in it", pid)
	}
	if f := strings.Fields(string(b[end+1:])); len(f) > 1 {
		parent, err = strconv.Atoi(f[1])
	}
	return string(b[open+1 : end]), parent, err
}

// waitPidfd waits until the process has ended.
func waitPidfd(ctx context.Context, fd int) error {
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return ctx.Err()
}
