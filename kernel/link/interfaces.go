package link

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
)

// Groups of rtnetlink and what a request for interfaces leaves out
// (include/uapi/linux/rtnetlink.h, if_link.h).
const (
	groupLink     = 1
	groupIP4Addr  = 5
	groupIP6Addr  = 9
	sizeLink      = 16 // struct ifinfomsg
	attrLinkName  = 3  // IFLA_IFNAME
	attrLinkMask  = 29 // IFLA_EXT_MASK
	withoutCounts = 8  // RTEXT_FILTER_SKIP_STATS

	interfaceBuffer = 1 << 20
)

// Link is a network interface.
type Link struct {
	Index    int
	Name     string
	Up       bool // set up, and its carrier is there or it has none
	Loopback bool
}

// Links lists the interfaces of the namespace.
func (t *Table) Links(ctx context.Context) (list []Link, err error) {
	payload := netlink.AppendAttr32(make([]byte, sizeLink), attrLinkMask, withoutCounts)
	list, err = netlink.Collect(ctx, t.req, unix.RTM_GETLINK, payload, func(m netlink.Message) (Link, bool, error) {
		l, ok := decodeLink(m.Payload)
		return l, ok && m.Type == unix.RTM_NEWLINK, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return list, nil
}

// decodeLink reads an RTM_NEWLINK message.
func decodeLink(b []byte) (l Link, ok bool) {
	if len(b) < sizeLink {
		return l, false
	}
	const up = unix.IFF_UP | unix.IFF_RUNNING
	flags := native.Uint32(b[8:])
	l = Link{Index: int(int32(native.Uint32(b[4:]))), Up: flags&up == up, Loopback: flags&unix.IFF_LOOPBACK != 0}
	for rest := netlink.Attrs(b[sizeLink:]); ; {
		typ, data, more := rest.Next()
		if !more {
			return l, l.Name != ""
		}
		if typ == attrLinkName {
			l.Name = unix.ByteSliceToString(data)
		}
	}
}

// Watch reports that addresses or interfaces may have changed, by a
// value on the channel; several changes may make one value. When it returns,
// whatever changes afterwards is reported. The channel closes when ctx ends, or
// earlier when the socket fails.
func (t *Table) Watch(ctx context.Context) (<-chan struct{}, error) {
	sock, err := t.ns.Open(unix.NETLINK_ROUTE, interfaceBuffer, 0, groupLink, groupIP4Addr, groupIP6Addr)
	if err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		stop := context.AfterFunc(ctx, sock.Interrupt)
		defer func() {
			stop()
			_ = sock.Close()
		}()
		for {
			// What is lost is a change as well.
			if _, err := sock.Recv(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				if ctx.Err() == nil {
					t.log.Error("watching interfaces ends", "err", err)
				}
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, nil
}
