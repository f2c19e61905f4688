// Package claims finds out which machines answer for virtual addresses: it asks for
// them on their interfaces as any host would, by ARP and by neighbour solicitations,
// and notes who answers or announces them. It changes nothing and elects nobody.
package claims

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"sasyncd/carp/packet"
)

const (
	// AskEvery is how often each address is asked for.
	AskEvery = 10 * time.Second
	// Recent is how long an answer counts: three questions may go unanswered.
	Recent = 3*AskEvery + 5*time.Second
	// places is how many machines are noted for an address. Whoever floods a network
	// takes the places, and that is seen.
	places = 4
)

// Target is an interface and the virtual addresses on it.
type Target struct {
	Device string
	IPs    []netip.Addr
}

// Book is who answers for what. Times are of one clock that never goes back. The zero
// Book is empty. Safe for concurrent use.
type Book struct {
	mu    sync.Mutex
	of    map[netip.Addr]*entry
	aimed time.Duration // when Aim last changed something
}

type entry struct {
	claims []claim
	asked  time.Duration // latest question, 0 never
}

type claim struct {
	mac packet.MAC
	at  time.Duration // latest
}

// Aim names the addresses that count from now on.
func (b *Book) Aim(ips []netip.Addr, now time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := make(map[netip.Addr]*entry, len(ips))
	for _, ip := range ips {
		if of[ip] = b.of[ip]; of[ip] == nil {
			of[ip] = new(entry)
			b.aimed = now
		}
	}
	b.of = of
}

// Asked notes a question.
func (b *Book) Asked(ip netip.Addr, now time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.of[ip]; e != nil {
		e.asked = now
	}
}

// Claimed notes that a machine has said that an address is its own.
func (b *Book) Claimed(ip netip.Addr, mac packet.MAC, now time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.of[ip]
	if e == nil {
		return
	}
	i := slices.IndexFunc(e.claims, func(c claim) bool { return c.mac == mac })
	switch {
	case i >= 0:
	case len(e.claims) < places:
		i = len(e.claims)
		e.claims = append(e.claims, claim{mac: mac})
	default: // the oldest gives its place
		i = 0
		for j, c := range e.claims {
			if c.at < e.claims[i].at {
				i = j
			}
		}
		e.claims[i].mac = mac
	}
	e.claims[i].at = now
}

// Claims returns who has claimed an address within Recent, and since a point in time:
// before that another machine may have had it rightly.
func (b *Book) Claims(ip netip.Addr, since, now time.Duration) (out []packet.MAC) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.of[ip]; e != nil {
		for _, c := range e.claims {
			if c.at > since && now-c.at < Recent {
				out = append(out, c.mac)
			}
		}
	}
	return out
}

// Silent reports whether nobody has answered for an address that has been asked for as
// long as Recent, all since a point in time.
func (b *Book) Silent(ip netip.Addr, since, now time.Duration) bool {
	if len(b.Claims(ip, since, now)) > 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.of[ip]
	return e != nil && now-max(since, b.aimed) >= Recent && e.asked > 0 && now-e.asked < 2*AskEvery
}
