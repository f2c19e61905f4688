package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// Protects reports whether a namespace has a policy that has anything encrypted or
// authenticated: one with a template, that is no socket's. With vips it must be about one
// of those addresses, as an end of its tunnel or, in transport mode, of the traffic. It
// reads no further than to the first, which with thousands of them is a small part. A
// kernel that has no XFRM has none.
func Protects(ns *netlink.Namespace, vips ...netip.Addr) (yes bool, err error) {
	err = dump.Retry(func() (err error) {
		yes, err = protects(ns, vips)
		return err
	})
	return yes, err
}

func protects(ns *netlink.Namespace, vips []netip.Addr) (yes bool, err error) {
	sock, err := ns.Open(unix.NETLINK_XFRM, 0, 0)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for policies: %w", err)
	}
	defer func() { _ = sock.Close() }() // and with it what is left of the answer
	b, at := netlink.BeginMessage(nil, msgGetPolicy, unix.NLM_F_DUMP, 1, 0)
	netlink.EndMessage(b, at)
	if err := sock.Send(b); err != nil {
		return false, fmt.Errorf("look for policies: %w", err)
	}
	d := newDecoder(func(uint32) string { return "" })
	var v netlink.Verdict
	for {
		datagram, err := sock.Answer()
		if err != nil {
			return false, fmt.Errorf("look for policies: %w", err)
		}
		for rest := netlink.Messages(datagram); ; {
			m, ok := rest.Next()
			if !ok {
				break
			}
			switch {
			case v.Take(m, unix.NLM_F_DUMP):
				if err := v.Err(); err != nil {
					return false, fmt.Errorf("look for policies: %w", err)
				}
				return false, nil
			case m.Type == msgNewPolicy && encrypts(d, m.Payload, vips):
				return true, nil
			}
		}
	}
}

// encrypts reports whether the payload of a NEWPOLICY has a template and belongs
// to no socket, and with vips whether it is about one of them.
func encrypts(d *decoder, b []byte, vips []netip.Addr) bool {
	p, err := d.policy(b, 0)
	if err != nil || p.Socket {
		return false
	}
	for _, t := range p.Templates {
		if len(vips) == 0 || slices.Contains(vips, t.Src) || slices.Contains(vips, t.Dst) {
			return true
		}
		if t.Mode == sadb.ModeTunnel || t.Mode == sadb.ModeBEET || specified(t.Src) || specified(t.Dst) {
			continue
		}
		for _, end := range []func() (netip.Prefix, bool){p.Key.Selector.SrcPrefix, p.Key.Selector.DstPrefix} {
			if own, ok := end(); ok && own.IsSingleIP() && slices.Contains(vips, own.Addr()) {
				return true
			}
		}
	}
	return false
}

func specified(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }
