package track

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var errCarrier = errors.New("interface has no carrier")

// carrier looks whether an interface is up and has a carrier.
func carrier(device string) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("look up interface: %w", err)
	}
	const up = unix.IFF_UP | unix.IFF_RUNNING
	if l.Attrs().RawFlags&up != up {
		return errCarrier
	}
	return nil
}
