package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sasyncd/cmd/internal/conf"
	"sasyncd/sync/members"
	"sasyncd/sync/peer"
)

// Bounds of what `peer discover` finds.
const (
	maxFound      = 16
	maxFoundAddrs = 4
	discoverEvery = time.Second
)

// foundHere is how a peer was found that has connected by itself.
const foundHere = "its own connection"

// discovery adds to the peers of the configuration those that it finds: members that
// gossip tells of by way of a peer, and whoever connects. Only who holds the key takes
// part in gossip, and a peer that was found has to prove that it does, as any other.
// What was found stays until sasyncd reloads or restarts: a member that is away may
// hold more than this node, and counts.
type discovery struct {
	on     bool   // the configuration has `peer discover`
	port   uint16 // of who connects
	log    *slog.Logger
	status func() []peer.Status
	set    func([]peer.Peer) error
	own    func() map[netip.Addr]bool
	seen   func() []members.Member // without a session

	expected atomic.Int64 // members that there are at least, without this one

	mu    sync.Mutex
	conf  []peer.Peer
	found []foundPeer
	full  bool // and told
}

// foundPeer is a peer and the name of who told of it, or foundHere.
type foundPeer struct {
	peer.Peer
	by string
}

func discovers(c *conf.Sasyncd) bool {
	return slices.ContainsFunc(c.Peers, func(p conf.Peer) bool { return p.Discover })
}

func newDiscovery(c *conf.Sasyncd, log *slog.Logger) *discovery {
	d := &discovery{on: discovers(c), port: conf.DefaultSyncPort, log: log, conf: peersOf(c)}
	if len(c.Listen) > 0 {
		d.port = c.Listen[0].Port
	}
	d.expected.Store(int64(len(c.Peers)))
	return d
}

// Run looks for members until ctx ends.
func (d *discovery) Run(ctx context.Context) error {
	tick := time.NewTicker(discoverEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.look()
		}
	}
}

// look adds the members that are seen by way of a peer and are no peers yet.
func (d *discovery) look() {
	status, own := d.status(), d.own()
	for _, x := range seenOf(d.seen(), status) {
		if x.Peer != "" {
			continue
		}
		for _, m := range d.seen() {
			if m.Node.String() == x.Node {
				d.add(dialable(m.Claim.Addrs, own), x.Via)
			}
		}
	}
	// Until one is there, nobody knows that nobody holds more.
	d.expected.Store(int64(max(1, len(others(d.status(), own)))))
}

// dialable returns the addresses of a claim that may be those of a gateway.
func dialable(claim []string, own map[netip.Addr]bool) (out []netip.AddrPort) {
	for _, s := range claim {
		a, err := netip.ParseAddrPort(s)
		if err != nil || a.Port() == 0 || len(out) == maxFoundAddrs {
			continue
		}
		if ip := bareAddr(a.Addr()); ip.IsGlobalUnicast() && ip != netip.AddrFrom4([4]byte{255, 255, 255, 255}) &&
			!own[ip] {
			out = append(out, netip.AddrPortFrom(ip, a.Port()))
		}
	}
	return out
}

// connected adds whoever has shown that it holds a key.
func (d *discovery) connected(from netip.Addr) {
	go d.add(dialable([]string{netip.AddrPortFrom(bareAddr(from), d.port).String()}, d.own()), foundHere)
}

// add adds a peer with these addresses, unless one of them is a peer's.
func (d *discovery) add(addrs []netip.AddrPort, by string) {
	if len(addrs) == 0 {
		return
	}
	status := d.status()
	d.mu.Lock()
	defer d.mu.Unlock()
	p := foundPeer{Peer: peer.Peer{Name: addrs[0].Addr().String()}, by: by}
	for _, a := range addrs {
		p.Addrs = append(p.Addrs, a.String())
		taken := slices.ContainsFunc(status, func(s peer.Status) bool {
			return s.Name == p.Name || slices.ContainsFunc(s.Addrs,
				func(o netip.AddrPort) bool { return bareAddr(o.Addr()) == a.Addr() })
		})
		if taken || d.has(a.Addr()) {
			return
		}
	}
	if len(d.found) == maxFound {
		if !d.full { // once: who is not taken may come again every second
			d.full = true
			d.log.Warn("a member is not taken as a peer, as enough were found: name it by peer", "peer", p.Name)
		}
		return
	}
	d.found = append(d.found, p)
	if err := d.apply(); err != nil {
		d.log.Warn("a member that was found is no peer", "peer", p.Name, "err", err)
		d.found = d.found[:len(d.found)-1]
		return
	}
	d.log.Info("found a peer", "peer", p.Name, "reason", "by "+by)
}

// has reports whether an address is that of a peer of the configuration, or found. Needs
// mu.
func (d *discovery) has(a netip.Addr) bool {
	is := func(p peer.Peer) bool {
		return slices.ContainsFunc(p.Addrs, func(s string) bool {
			host, _, err := net.SplitHostPort(s)
			ip, bad := netip.ParseAddr(host)
			return err == nil && bad == nil && bareAddr(ip) == a
		})
	}
	return slices.ContainsFunc(d.conf, is) || slices.ContainsFunc(d.found, func(p foundPeer) bool { return is(p.Peer) })
}

// apply gives all peers to the sessions. Needs mu.
func (d *discovery) apply() error {
	all := slices.Clone(d.conf)
	for i := range d.found {
		all = append(all, d.found[i].Peer)
	}
	return d.set(all)
}

// configure replaces the peers of the configuration. What was found and has no session
// is forgotten.
func (d *discovery) configure(peers []peer.Peer) error {
	status := d.status()
	d.mu.Lock()
	defer d.mu.Unlock()
	was, found := d.conf, d.found
	d.conf, d.full = peers, false
	d.found = slices.DeleteFunc(slices.Clone(found), func(p foundPeer) bool {
		return !slices.ContainsFunc(status, func(s peer.Status) bool { return s.Name == p.Name && s.Session != nil }) ||
			slices.ContainsFunc(peers, func(o peer.Peer) bool { return o.Name == p.Name })
	})
	err := d.apply()
	if err != nil {
		d.conf, d.found = was, found
	}
	return err
}

// by returns who told of a peer, "" of one of the configuration.
func (d *discovery) by(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.found {
		if d.found[i].Name == name {
			return d.found[i].by
		}
	}
	return ""
}

// count is how many other members there are at least.
func (d *discovery) count() int { return int(d.expected.Load()) }
