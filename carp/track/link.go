package track

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
)

var errCarrier = errors.New("interface has no carrier")

// linkCheck looks at an interface again and again.
type linkCheck struct {
	look func() error // carrier of the interface
	last error
}

// check reports whether the interface is up and has a carrier. When the kernel cannot
// be asked, what was known stands.
func (l *linkCheck) check(context.Context) error {
	err := l.look()
	if err == nil || errors.Is(err, errCarrier) || errors.As(err, new(netlink.LinkNotFoundError)) {
		l.last = err
	}
	return l.last
}

// carrier looks whether an interface is up and has a carrier.
func carrier(device string) error {
	var l netlink.Link
	err := dump.Retry(func() (err error) {
		l, err = netlink.LinkByName(device)
		return err
	})
	if err != nil {
		return fmt.Errorf("look up interface: %w", err)
	}
	const up = unix.IFF_UP | unix.IFF_RUNNING
	if l.Attrs().RawFlags&up != up {
		return errCarrier
	}
	return nil
}
