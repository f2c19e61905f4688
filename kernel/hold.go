package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
	"sasyncd/sync/sadb"
)

// HoldPref is where a [Hold] stands in the routing policy: `iif NAME blackhole`.
// Nothing that is forwarded finds a rule before it; see the package comment.
const HoldPref = 3

// Hold keeps what comes in by some interfaces from being forwarded, in both
// families. What is for the node itself passes. What is in the kernel is the
// state, so a Hold that is made later, by another process too, goes on from
// there. Its methods are safe for concurrent use.
type Hold struct{ routing *routing }

// OpenHold opens the routing policy of the calling thread's network namespace.
// It changes nothing.
func OpenHold() (*Hold, error) {
	r, err := openRouting()
	if err != nil {
		return nil, fmt.Errorf("open hold: %w", err)
	}
	return &Hold{r}, nil
}

// Close releases the socket; what is held stays so.
func (h *Hold) Close() error { return h.routing.close() }

// Set holds the interfaces of those names and no other one, whoever held it.
// They need not exist. A kernel without one of the families has nothing to hold
// there.
func (h *Hold) Set(ctx context.Context, names ...string) error {
	rules, err := h.routing.rules(ctx)
	if err != nil {
		return fmt.Errorf("set hold: %w", err)
	}
	var errs []error
	for _, family := range []sadb.Family{sadb.FamilyIPv4, sadb.FamilyIPv6} {
		var changes []change
		for _, name := range names {
			if r := holdRule(name, family); !slices.Contains(rules, r) {
				changes = append(changes, addRule(r))
			}
		}
		for _, r := range rules {
			if r.pref == HoldPref && r.family == family && !slices.Contains(names, r.iif) {
				changes = append(changes, delRule(r))
			}
		}
		if err := h.routing.apply(changes...); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			errs = append(errs, fmt.Errorf("set hold: %w", err))
		}
	}
	return errors.Join(errs...)
}

func holdRule(name string, family sadb.Family) rule {
	return rule{iif: name, family: family, pref: HoldPref}
}

// Held lists the interfaces that are held, by name, in any of the families.
func (h *Hold) Held(ctx context.Context) (names []string, err error) {
	rules, err := h.routing.rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("read hold: %w", err)
	}
	for _, r := range rules {
		if r.pref == HoldPref && !slices.Contains(names, r.iif) {
			names = append(names, r.iif)
		}
	}
	return names, nil
}

// Protected reports whether the kernel has a policy that has anything encrypted
// or authenticated: one with a template, that is no socket's. With vips it must
// be about one of those addresses, as an end of its tunnel or, in transport mode, of
// the traffic. It reads no further
// than to the first, which with thousands of them is a small part. A kernel that
// has no XFRM has none.
func (h *Hold) Protected(vips ...netip.Addr) (yes bool, err error) {
	err = dump.Retry(func() (err error) {
		yes, err = h.protected(vips)
		return err
	})
	return yes, err
}

func (h *Hold) protected(vips []netip.Addr) (yes bool, err error) {
	var sock *socket
	err = h.routing.ns.do(func() error {
		sock, err = openSocket(unix.NETLINK_XFRM, 0, 0)
		return err
	})
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for policies: %w", err)
	}
	defer func() { _ = sock.close() }() // and with it what is left of the answer
	b, at := beginMessage(nil, msgGetPolicy, unix.NLM_F_DUMP, 1, 0)
	endMessage(b, at)
	if err := sock.send(b); err != nil {
		return false, fmt.Errorf("look for policies: %w", err)
	}
	d := newDecoder(func(uint32) string { return "" })
	var verdict verdict
	for {
		datagram, err := sock.answer()
		if err != nil {
			return false, fmt.Errorf("look for policies: %w", err)
		}
		for rest := messages(datagram); ; {
			m, ok := rest.next()
			if !ok {
				break
			}
			switch {
			case verdict.take(m, unix.NLM_F_DUMP):
				if err := verdict.error(); err != nil {
					return false, fmt.Errorf("look for policies: %w", err)
				}
				return false, nil
			case m.typ == msgNewPolicy && encrypts(d, m.payload, vips):
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
