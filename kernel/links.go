package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// links translates interface names and indexes. It asks the kernel each time:
// selectors with an interface are rare and indexes are reused.
type links struct{ fd int }

// openLinks opens a socket in the calling thread's namespace, in which its
// ioctls then work on any thread.
func openLinks() (*links, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		// A kernel without IPv4; any family answers these ioctls.
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open socket for interface names: %w", err)
	}
	return &links{fd: fd}, nil
}

func (l *links) close() error { return unix.Close(l.fd) }

// name returns "" for an index without interface.
func (l *links) name(index uint32) string {
	req, err := unix.NewIfreq("")
	if err != nil {
		return ""
	}
	req.SetUint32(index)
	if unix.IoctlIfreq(l.fd, unix.SIOCGIFNAME, req) != nil {
		return ""
	}
	return req.Name()
}

func (l *links) index(name string) (uint32, error) {
	req, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(l.fd, unix.SIOCGIFINDEX, req)
	}
	if err != nil {
		return 0, err
	}
	return req.Uint32(), nil
}
