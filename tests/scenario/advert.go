package scenario

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/tests/harness/lab"
)

// AwaitAdvert waits, up to ten intervals, until an advertisement of CARP or VRRP
// over IPv4 from an address arrives at an interface of a node, and returns when.
// A failure that is measured from such a moment does not depend on when in the
// interval it came.
func AwaitAdvert(at *lab.Node, dev string, from netip.Addr, interval time.Duration) (when time.Time, err error) {
	err = at.Do(func() error {
		l, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		limit := unix.NsecToTimeval(int64(interval))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			return err
		}
		proto := uint16(unix.ETH_P_IP)
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto<<8 | proto>>8, Ifindex: l.Index}); err != nil {
			return err
		}
		var buf [1500]byte
		for end := time.Now().Add(10 * interval); time.Now().Before(end); {
			n, err := unix.Read(fd, buf[:])
			if err != nil {
				if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
					continue
				}
				return err
			}
			var f packet.Frame
			if f.Parse(buf[:n]) == nil && f.Proto == packet.Protocol && f.SrcIP == from {
				when = time.Now()
				return nil
			}
		}
		return fmt.Errorf("no advertisement of %s at %s of %s within ten intervals", from, dev, at.Name)
	})
	return when, err
}
