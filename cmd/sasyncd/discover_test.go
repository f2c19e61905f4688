package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/cmd/internal/conf"
	"sasyncd/sync/members"
	"sasyncd/sync/peer"
	"sasyncd/sync/wire"
)

// finder is a discovery on 10.9.0.2 that names 10.9.0.1 and has a session with it.
type finder struct {
	*discovery
	peers []peer.Peer // as the sessions have them
	up    map[string]bool
	seen  []members.Member
}

func newFinder(t *testing.T) *finder {
	t.Helper()
	c, err := conf.ParseSasyncd("sasyncd.conf", []byte("interface carp1\npeer discover 10.9.0.1\nsharedkey "+
		"0x000102030405060708090a0b0c0d0e0f1011121314151617\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := &finder{discovery: newDiscovery(c, slog.New(slog.DiscardHandler)), up: map[string]bool{"10.9.0.1": true}}
	f.peers = peersOf(c)
	f.set = func(list []peer.Peer) error { f.peers = list; return nil }
	f.own = func() map[netip.Addr]bool { return map[netip.Addr]bool{netip.MustParseAddr("10.9.0.2"): true} }
	f.discovery.seen = func() []members.Member { return f.seen }
	f.status = func() (out []peer.Status) {
		for _, p := range f.peers {
			s := peer.Status{Name: p.Name}
			for _, a := range p.Addrs {
				s.Addrs = append(s.Addrs, netip.MustParseAddrPort(a))
			}
			if f.up[p.Name] {
				s.Session, s.Node = new(peer.Session), wire.NodeID{s.Addrs[0].Addr().As4()[3]}
			}
			out = append(out, s)
		}
		return out
	}
	return f
}

// sees adds a member that 10.9.0.1 tells of.
func (f *finder) sees(n byte, addrs ...string) {
	f.seen = append(f.seen, members.Member{Node: wire.NodeID{n}, Alive: true,
		Claim: members.Claim{Host: fmt.Sprint("gw", n), Addrs: addrs},
		Seen:  members.Sighting{Node: wire.NodeID{n}, Via: wire.NodeID{1}, At: time.Now()}})
}

// names are those of the peers but the one that is named.
func (f *finder) names() (out []string) {
	for _, p := range f.peers[1:] {
		out = append(out, p.Name+" by "+f.by(p.Name))
	}
	return out
}

// TestDiscover: whom the named peer tells of becomes a peer, once, and what cannot be a
// gateway does not.
func TestDiscover(t *testing.T) {
	for what, tt := range map[string]struct {
		addrs []string
		want  []string
	}{
		"a member":      {[]string{"10.9.0.3:500"}, []string{"10.9.0.3 by 10.9.0.1"}},
		"two addresses": {[]string{"10.9.0.3:500", "10.8.0.3:501"}, []string{"10.9.0.3 by 10.9.0.1"}},
		"some that cannot be dialled": {[]string{"gw3:500", "127.0.0.1:500", "[::1]:500", "0.0.0.0:500",
			"224.0.0.18:500", "[fe80::1]:500", "10.9.0.3:0", "10.9.0.4:502"}, []string{"10.9.0.4 by 10.9.0.1"}},
		"this gateway":            {[]string{"10.9.0.2:500"}, nil},
		"the named peer":          {[]string{"10.9.0.1:501"}, nil},
		"one address is a peer's": {[]string{"10.9.0.3:500", "10.9.0.1:500"}, nil},
		"broadcast":               {[]string{"255.255.255.255:500"}, nil},
		"no address":              {nil, nil},
	} {
		f := newFinder(t)
		f.sees(3, tt.addrs...)
		for range 3 {
			f.look()
		}
		if d := cmp.Diff(tt.want, f.names()); d != "" {
			t.Errorf("%s: want -, got +\n%s", what, d)
		}
	}
}

// TestFoundPeersAreBounded: a member that tells of many fills what there is, and no
// more; of the addresses of one not more than a few are dialled.
func TestFoundPeersAreBounded(t *testing.T) {
	f := newFinder(t)
	for n := range byte(100) {
		var addrs []string
		for i := range byte(20) {
			addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 7, 3 + n, i + 1}), 500).String())
		}
		f.sees(3+n, addrs...)
	}
	f.look()
	f.add(dialable([]string{"10.9.0.9:500"}, f.own()), foundHere)
	if len(f.peers) != 1+maxFound {
		t.Errorf("%d peers", len(f.peers))
	}
	for _, p := range f.peers {
		if len(p.Addrs) > maxFoundAddrs {
			t.Errorf("%s has %d addresses", p.Name, len(p.Addrs))
		}
	}
	if f.count() != 1+maxFound {
		t.Errorf("%d members are expected", f.count())
	}
}

// TestFoundPeersStay: one that is away may hold more than this node, so it counts until
// a reload forgets it.
func TestFoundPeersStay(t *testing.T) {
	f := newFinder(t)
	f.sees(3, "10.9.0.3:500")
	f.sees(4, "10.9.0.4:500")
	f.look()
	f.seen = nil
	f.up["10.9.0.4"] = true
	if f.look(); f.count() != 3 || len(f.peers) != 3 {
		t.Errorf("%d expected, peers %v", f.count(), f.peers)
	}
	if err := f.configure([]peer.Peer{f.peers[0]}); err != nil {
		t.Fatal(err)
	}
	if f.look(); f.count() != 2 || !slices.Equal(f.names(), []string{"10.9.0.4 by 10.9.0.1"}) {
		t.Errorf("after a reload: %d expected, peers %v", f.count(), f.peers)
	}
}

// TestNobodyFoundYet: a gateway whose only peer is itself does not know that nobody
// holds more.
func TestNobodyFoundYet(t *testing.T) {
	f := newFinder(t)
	f.own = func() map[netip.Addr]bool { return map[netip.Addr]bool{netip.MustParseAddr("10.9.0.1"): true} }
	f.up = nil
	if f.look(); f.count() != 1 {
		t.Errorf("%d members are expected", f.count())
	}
	f.add(dialable([]string{"10.9.0.3:500"}, f.own()), foundHere)
	if f.look(); f.count() != 1 || !slices.Equal(f.names(), []string{"10.9.0.3 by " + foundHere}) {
		t.Errorf("%d members are expected, peers %v", f.count(), f.peers)
	}
}
