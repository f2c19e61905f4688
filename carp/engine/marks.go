package engine

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Marks remembers over a restart which sequence numbers of signed messages a
// router has seen from whom, and which it has sent: that is the zero sender's.
// Set is called from one goroutine.
type Marks interface {
	Senders(router string) map[netip.Addr]uint64
	Set(router string, sender netip.Addr, seq uint64)
}

// markPause is the rhythm in which marks are handed on at most.
const markPause = 50 * time.Millisecond

// markBook collects marks from the engine's thread, which neither waits nor
// allocates for them.
type markBook struct {
	mu          sync.Mutex
	fresh, free map[markOf]uint64
	wake        chan struct{}
}

type markOf struct {
	r    *router
	from netip.Addr
}

func newMarkBook() *markBook {
	return &markBook{fresh: make(map[markOf]uint64), free: make(map[markOf]uint64), wake: make(chan struct{}, 1)}
}

func (b *markBook) note(r *router, from netip.Addr, seq uint64) {
	b.mu.Lock()
	b.fresh[markOf{r, from}] = seq
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// flush hands on what has been noted.
func (b *markBook) flush(to Marks) {
	b.mu.Lock()
	done := b.fresh
	b.fresh = b.free
	b.mu.Unlock()
	for k, seq := range done {
		to.Set(k.r.markName(), k.from, seq)
	}
	clear(done)
	b.free = done
}

// markName is what a router is remembered under.
func (r *router) markName() string { return r.Instance + " " + family(r.six()) }

// resumeMarks lets sequence numbers go on where an earlier process stopped.
func (e *Engine) resumeMarks() {
	if e.deps.Marks == nil {
		return
	}
	for _, r := range e.routers {
		if !r.auth.Checks() {
			continue
		}
		for from, seq := range e.deps.Marks.Senders(r.markName()) {
			if from.IsValid() {
				r.auth.Remember(from, seq)
			} else {
				r.auth.Resume(seq, time.Now())
			}
		}
	}
}

// writeMarks hands marks on until ctx ends.
func (e *Engine) writeMarks(ctx context.Context) {
	if e.deps.Marks == nil {
		return
	}
	defer func() { e.marks.flush(e.deps.Marks) }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.marks.wake:
		}
		e.marks.flush(e.deps.Marks)
		select {
		case <-ctx.Done():
			return
		case <-time.After(markPause):
		}
	}
}
