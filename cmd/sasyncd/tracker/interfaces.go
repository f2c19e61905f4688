package tracker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// view is what the kernel says of the node's interfaces.
type view struct {
	up    map[string]bool    // interfaces that work
	addrs map[netip.Addr]int // usable addresses, and the index of their interface
	any   int                // an interface that is up and no loopback, 0 for none
}

// look reads the kernel. An address counts when it can be used: not while
// duplicate address detection runs or has failed, and not on an interface that
// is down, which is how FRR's vrrpd takes its addresses out of service.
func look(ctx context.Context, ifs Interfaces) (*view, error) {
	links, err := ifs.Links(ctx)
	if err != nil {
		return nil, err
	}
	addrs, err := ifs.Addrs(ctx)
	if err != nil {
		return nil, err
	}
	v := &view{up: make(map[string]bool), addrs: make(map[netip.Addr]int)}
	up := make(map[int]bool)
	for _, l := range links {
		v.up[l.Name], up[l.Index] = l.Up, l.Up
		if l.Up && !l.Loopback && v.any == 0 {
			v.any = l.Index
		}
	}
	for _, a := range addrs {
		const unusable = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
		if up[a.Link] && a.Flags&unusable == 0 {
			v.addrs[a.Prefix.Addr()] = a.Link
		}
	}
	return v, nil
}

// link returns the interface of an address.
func (v *view) link(a netip.Addr) int {
	if l := v.addrs[a]; l != 0 {
		return l
	}
	return v.any
}

// has reports whether all addresses are there, and if not, which are missing.
func (v *view) has(vips []netip.Addr) (ok bool, reason string) {
	var missing []string
	for _, a := range vips {
		if v.addrs[a] == 0 {
			missing = append(missing, a.String())
		}
	}
	if len(missing) > 0 {
		return false, "not here: " + strings.Join(missing, " ")
	}
	return len(vips) > 0, "all addresses are here"
}

const (
	lookAgain = 200 * time.Millisecond // after a failure
	lookEvery = 5 * time.Second        // in case something is not announced
)

// interfaces is `tracker link` or `tracker address`.
type interfaces struct {
	ifs    Interfaces
	groups []Group
	judge  func(*view, Group) (bool, string)
}

// NewLink returns `tracker link`: a group is master while the interface that
// bears its name is up.
func NewLink(ifs Interfaces, groups []Group) Source {
	return &interfaces{ifs, groups, func(v *view, g Group) (bool, string) {
		switch up, there := v.up[g.Name]; {
		case !there:
			return false, fmt.Sprintf("interface %s does not exist", g.Name)
		case !up:
			return false, fmt.Sprintf("interface %s is down", g.Name)
		}
		return true, fmt.Sprintf("interface %s is up", g.Name)
	}}
}

// NewAddress returns `tracker address`: a group is master while this node has
// all of its addresses.
func NewAddress(ifs Interfaces, groups []Group) Source {
	return &interfaces{ifs, groups, func(v *view, g Group) (bool, string) { return v.has(g.VIPs) }}
}

// Follow implements Source.
func (s *interfaces) Follow(ctx context.Context, see func(string, Observation)) error {
	changed, err := s.ifs.Watch(ctx)
	if err != nil {
		return err
	}
	for {
		wait := lookEvery
		if v, err := look(ctx, s.ifs); err != nil {
			wait = lookAgain
		} else {
			for _, g := range s.groups {
				is, reason := s.judge(v, g)
				see(g.Name, Observation{Master: is, Reason: reason})
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, ok := <-changed:
			if !ok {
				return errors.New("interfaces are not watched any more")
			}
		case <-time.After(wait):
		}
	}
}
