package link

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Names translates interface names and indexes. It asks the kernel each time:
// selectors with an interface are rare and indexes are reused.
type Names struct{ fd int }

// OpenNames opens a socket in the calling thread's namespace, in which its
// ioctls then work on any thread.
func OpenNames() (*Names, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		// A kernel without IPv4; any family answers these ioctls.
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open socket for interface names: %w", err)
	}
	return &Names{fd: fd}, nil
}

// Close closes the socket.
func (n *Names) Close() error { return unix.Close(n.fd) }

// Name returns "" for an index without interface.
func (n *Names) Name(index uint32) string {
	req, err := unix.NewIfreq("")
	if err != nil {
		return ""
	}
	req.SetUint32(index)
	if unix.IoctlIfreq(n.fd, unix.SIOCGIFNAME, req) != nil {
		return ""
	}
	return req.Name()
}

// Index returns the index of the interface of that name, unix.ENODEV if there is none.
func (n *Names) Index(name string) (uint32, error) {
	req, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(n.fd, unix.SIOCGIFINDEX, req)
	}
	if err != nil {
		return 0, err
	}
	return req.Uint32(), nil
}
