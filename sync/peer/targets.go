package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

const (
	lookupEvery   = 5 * time.Second // while nobody answers
	lookupTimeout = 5 * time.Second
)

// targets are where a peer may be reached. hosts and found are not changed once
// set; next is for the owner's goroutine.
type targets struct {
	hosts []host
	found []netip.AddrPort // in the order of hosts
	next  time.Time        // of the next lookup
}

// host is one address of a configuration; names are looked up.
type host struct {
	name  string
	addr  netip.Addr
	port  uint16
	known []netip.AddrPort // of a name, when last looked up
}

// parseHost reads host:port.
func parseHost(s string) (host, error) {
	name, service, err := net.SplitHostPort(s)
	if err != nil {
		return host{}, fmt.Errorf("parse peer address: %w", err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return host{}, fmt.Errorf("parse peer address %s: port must be 1 to 65535", s)
	}
	h := host{name: name, port: uint16(port)}
	if a, err := netip.ParseAddr(name); err == nil {
		h.addr = a.Unmap()
	}
	return h, nil
}

// newTargets reads addresses that Peer.check accepted.
func newTargets(addrs []string) *targets {
	t := new(targets)
	for _, s := range addrs {
		if h, err := parseHost(s); err == nil {
			t.hosts = append(t.hosts, h)
		}
	}
	t.collect()
	return t
}

func (t *targets) collect() {
	t.found = nil
	add := func(a netip.AddrPort) {
		if !slices.Contains(t.found, a) {
			t.found = append(t.found, a)
		}
	}
	for _, h := range t.hosts {
		if h.addr.IsValid() {
			add(netip.AddrPortFrom(h.addr, h.port))
		}
		for _, a := range h.known {
			add(a)
		}
	}
}

func (t *targets) named() bool {
	return slices.ContainsFunc(t.hosts, func(h host) bool { return !h.addr.IsValid() })
}

// due reports whether names should be looked up, and notes that they are.
func (t *targets) due(now time.Time) bool {
	if !t.named() || now.Before(t.next) {
		return false
	}
	t.next = now.Add(lookupEvery)
	return true
}

// resolve looks the names up and returns what is new, nil when nothing is. A
// name that cannot be resolved keeps what it had.
func (t *targets) resolve(ctx context.Context, lookup func(context.Context, string) ([]netip.Addr, error)) (*targets,
	error) {
	n := &targets{hosts: slices.Clone(t.hosts)}
	var failed error
	for i := range n.hosts {
		h := &n.hosts[i]
		if h.addr.IsValid() {
			continue
		}
		addrs, err := lookup(ctx, h.name)
		if err == nil && len(addrs) == 0 {
			err = errors.New("it has no address")
		}
		if err != nil {
			failed = fmt.Errorf("look up %s: %w", h.name, err)
			continue
		}
		h.known = nil
		for _, a := range addrs {
			h.known = append(h.known, netip.AddrPortFrom(a.Unmap(), h.port))
		}
	}
	if n.collect(); slices.Equal(n.found, t.found) {
		return nil, failed
	}
	return n, failed
}
