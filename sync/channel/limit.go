package channel

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// refusalReason says why a connection was closed; admitted is none.
type refusalReason uint8

const (
	admitted      refusalReason = iota
	refusedSource               // not an address that may connect
	refusedBusy                 // too many connections without a frame
	refusedRate                 // too many in a short time
	refusedLate                 // no answer in time
	refusedGone                 // closed by the dialler before it was let in
	refusedKey                  // the answer fits no key
	refusedTLS                  // wrong identity, or TLS failed otherwise
	refusedHello                // closed before its first frame
)

func (r refusalReason) String() string {
	return [...]string{"admitted", "source", "busy", "rate", "late", "gone", "key", "tls", "hello"}[r]
}

// Counters count connections to a listener.
type Counters struct {
	Accepted     atomic.Uint64 // by the kernel
	Up           atomic.Uint64 // a frame was read
	AcceptErrors atomic.Uint64
	refused      [refusedHello + 1]atomic.Uint64
}

// Refused calls f with every reason and how often it applied: source, busy,
// rate, late, gone, key, tls, hello.
func (c *Counters) Refused(f func(reason string, n uint64)) {
	for r := refusedSource; r <= refusedHello; r++ {
		f(r.String(), c.refused[r].Load())
	}
}

func (l *Listener) refused(a net.Addr, why refusalReason, err error) {
	l.Counters.refused[why].Add(1)
	level := slog.LevelDebug
	if why == refusedKey || why == refusedTLS {
		// Worth a line, as it is mostly a mistake in a configuration; but a
		// stranger must not fill the log.
		if from, _ := addrPort(a); l.gate.mayLog(from.Addr(), time.Now()) {
			level = slog.LevelWarn
		}
	}
	args := []any{"from", endpoint(a), "reason", why.String()}
	if err != nil {
		args = append(args, "err", err)
	}
	if why == refusedKey {
		args = append(args, "hint", "the shared keys differ")
	}
	l.log.Log(context.Background(), level, "refused a connection", args...)
}

const (
	maxSources  = 1024
	logInterval = time.Minute
)

// gate bounds how many connections wait and how fast they come.
type gate struct {
	max, perAddr int
	rate         float64
	strangers    atomic.Bool // whether anybody may connect

	mu      sync.Mutex
	pending int
	sources map[netip.Prefix]*source
}

// source is what one address did lately. Its bucket holds tokens as of last.
type source struct {
	pending int
	tokens  float64
	last    time.Time
	logged  time.Time
}

func newGate(cfg ListenConfig) *gate {
	g := &gate{max: cfg.MaxPending, perAddr: cfg.MaxPendingPerAddr, rate: float64(cfg.Rate),
		sources: map[netip.Prefix]*source{}}
	if g.max == 0 {
		g.max = 16
	}
	if g.perAddr == 0 {
		g.perAddr = 4
	}
	if g.rate == 0 {
		g.rate = 10
	}
	return g
}

// enter takes a place for a connection from a, to be given back by release,
// which may be called several times.
func (g *gate) enter(a netip.Addr, now time.Time) (release func(), _ refusalReason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.source(g.sourceOf(a), now)
	switch {
	case s == nil || g.pending >= g.max || s.pending >= g.perAddr:
		return nil, refusedBusy
	case s.tokens < 1:
		return nil, refusedRate
	}
	s.tokens--
	s.pending++
	g.pending++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		s.pending--
		g.pending--
	}), admitted
}

// source returns the entry for p with its bucket refilled, nil when too many
// other addresses are in use.
func (g *gate) source(p netip.Prefix, now time.Time) *source {
	s := g.sources[p]
	if s == nil {
		if len(g.sources) >= maxSources {
			g.forget(now)
		}
		if len(g.sources) >= maxSources {
			return nil
		}
		s = &source{tokens: 2 * g.rate, last: now}
		g.sources[p] = s
	}
	s.tokens = min(2*g.rate, s.tokens+g.rate*now.Sub(s.last).Seconds())
	s.last = now
	return s
}

// forget drops what a new entry would not differ from.
func (g *gate) forget(now time.Time) {
	for p, s := range g.sources {
		if s.pending == 0 && s.tokens+g.rate*now.Sub(s.last).Seconds() >= 2*g.rate {
			delete(g.sources, p)
		}
	}
}

func (g *gate) mayLog(a netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sources[g.sourceOf(a)]
	if s == nil || !s.logged.IsZero() && now.Sub(s.logged) < logInterval {
		return false
	}
	s.logged = now
	return true
}

// sourceOf returns what counts as one address. A stranger with IPv6 has a whole
// /64; nodes of one group may share theirs.
func (g *gate) sourceOf(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() && g.strangers.Load() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}
