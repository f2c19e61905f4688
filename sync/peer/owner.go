package peer

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sasyncd/sync/channel"
	"sasyncd/sync/wire"
)

const (
	dialTimeout = 3 * time.Second

	// holdBytes is how much may wait for the consumer before messages are no
	// longer read, releaseBytes how little before they are again.
	holdBytes    = 4 << 20
	releaseBytes = 1 << 20

	// maxRecords bounds what one connection protects with one AES-GCM key,
	// well below 2^24.5.
	maxRecords = 1 << 23
)

// owner is the goroutine that looks after one peer.
type owner struct {
	mgr  *Manager
	name string
	log  *slog.Logger
	m    *machine

	in    chan event
	msgs  chan incoming
	done  chan struct{} // closed at the end of run
	tasks sync.WaitGroup

	// For run only.
	lines    map[connID]*line
	lastID   connID
	dials    map[netip.AddrPort]*dial
	pending  []waiting
	pendSize int // bytes of messages in pending
	recheck  bool
	claimed  wire.NodeID // held in the manager's register
	asking   wire.NodeID // held while the machine judges
	held     bool
	lost     bool // a connection that ended by itself is being judged
	targets  *targets
	quit     bool
	quiet    quiet

	// Bytes of frames over all connections.
	read, written atomic.Uint64

	shared shared
}

// shared is what others than run may look at.
type shared struct {
	mu      sync.Mutex
	session *Session
	told    bool // the consumer knows of session
	trouble Reason
	known   wire.NodeID // node id of the last session
}

// waiting is an event until the consumer takes it.
type waiting struct {
	Event
	size int
}

// dial is an attempt under way. Its result counts as long as it is the newest
// for its address.
type dial struct {
	addr   netip.AddrPort
	cancel context.CancelFunc
}

// Inputs that only the runner knows.
type (
	inDialled struct {
		conn *channel.Conn
		dial *dial
	}
	inDialFailed struct {
		dial *dial
		err  error
	}
	inAccepted struct{ conn *channel.Conn }
	inClose    struct {
		session *Session
		evClose
	}
	inKeys    struct{}
	inTargets struct {
		t      *targets
		looked bool // up, else configured
	}
	inQuit struct{ evClose }
)

func newOwner(mgr *Manager, p Peer) *owner {
	h := mgr.cfg.Hello()
	return &owner{
		mgr: mgr, name: p.Name, log: mgr.cfg.Log.With("peer", p.Name), targets: newTargets(p.Addrs),
		m:  newMachine(self{h.Node, h.Nonce, h.Min, h.Max}),
		in: make(chan event), msgs: make(chan incoming), done: make(chan struct{}),
		lines: map[connID]*line{}, dials: map[netip.AddrPort]*dial{},
	}
}

// post hands an input to the owner, unless it has ended. The owner's own
// goroutine must not.
func (o *owner) post(ev event) {
	select {
	case o.in <- ev:
	case <-o.done:
		switch ev := ev.(type) {
		case inDialled:
			_ = ev.conn.Close()
		case inAccepted:
			_ = ev.conn.Close()
		}
	}
}

// run looks after the peer until ctx ends or the peer is removed.
func (o *owner) run(ctx context.Context) {
	defer o.stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	o.input(ctx, inTargets{t: o.targets})
	var armed time.Time // when the timer runs out
	for {
		var events chan<- Event
		var head Event
		if len(o.pending) > 0 {
			events, head = o.mgr.events, o.pending[0].Event
		} else if o.quit {
			return
		}
		msgs := o.msgs
		if o.held {
			msgs = nil
		}
		// Every message moves the time by which the next must have come. The timer
		// follows when it has run out, not each time.
		if at := o.due(); armed.IsZero() || at.Before(armed) {
			armed = at
			timer.Reset(max(time.Until(at), 0))
		}
		select {
		case ev := <-o.in:
			o.input(ctx, ev)
		case in := <-msgs:
			o.receive(in)
		case events <- head:
			o.taken()
		case <-timer.C:
			armed = time.Time{}
			o.rekeyIfExhausted()
			o.step(nil)
			if o.shared.session == nil {
				o.resolve(ctx)
			}
		case <-ctx.Done():
			o.step(evClose{wire.ByeShutdown, "the daemon stops"})
			return
		}
	}
}

// due returns when something may have to be done at the latest.
func (o *owner) due() time.Time {
	at := o.m.Deadline()
	if o.shared.session == nil && o.targets.named() && (at.IsZero() || o.targets.next.Before(at)) {
		at = o.targets.next
	}
	if at.IsZero() {
		at = time.Now().Add(time.Hour)
	}
	return at
}

// stop closes what is open and waits for the goroutines.
func (o *owner) stop() {
	for _, d := range o.dials {
		d.cancel()
	}
	for _, l := range o.lines {
		l.close()
	}
	close(o.done)
	o.tasks.Wait()
	o.mgr.release(o.claimed, o)
}

// step lets the machine decide and does what it says.
func (o *owner) step(ev event) {
	for _, a := range o.m.Step(time.Now(), ev) {
		o.do(a)
	}
	o.register()
	if o.recheck {
		o.recheck = false
		o.checkKey()
	}
}

// register keeps the node id of the session, and no other, in the manager's
// register.
func (o *owner) register() {
	var now wire.NodeID
	if o.shared.session != nil {
		now = o.shared.session.hello.Node
	}
	for _, id := range []wire.NodeID{o.claimed, o.asking} {
		if id != now {
			o.mgr.release(id, o)
		}
	}
	o.claimed, o.asking = now, wire.NodeID{}
}

func (o *owner) input(ctx context.Context, ev event) {
	switch ev := ev.(type) {
	case inDialled:
		if o.dials[ev.dial.addr] != ev.dial {
			_ = ev.conn.Close()
			return
		}
		delete(o.dials, ev.dial.addr)
		o.step(evDialled{o.add(ev.conn), ev.dial.addr})
	case inDialFailed:
		if o.dials[ev.dial.addr] == ev.dial {
			delete(o.dials, ev.dial.addr)
			o.step(evDialFailed{ev.dial.addr, ev.err})
			o.resolve(ctx)
		}
	case inAccepted:
		o.step(evAccepted{o.add(ev.conn), ev.conn.Remote().Addr()})
	case inClose:
		if o.shared.session == ev.session {
			o.step(ev.evClose)
		}
	case inKeys:
		o.checkKey()
	case inTargets:
		if ev.looked {
			ev.t.next = o.targets.next
		}
		o.targets = ev.t
		o.mgr.reachable(o, ev.t.found)
		o.step(evAddrs{ev.t.found})
		o.resolve(ctx)
	case inQuit:
		o.step(ev.evClose)
		o.quit = true
	case evLost:
		o.mgr.closed.lost(ev.Err)
		o.lost = true
		o.step(ev)
		o.lost = false
	default:
		o.step(ev)
	}
}

func (o *owner) add(c *channel.Conn) connID {
	o.lastID++
	newLine(o, o.lastID, c)
	return o.lastID
}

// receive gives a message to the machine.
func (o *owner) receive(in incoming) {
	ev := evReceived{Conn: in.line.id, Msg: in.msg}
	if h, ok := in.msg.(*wire.Hello); ok {
		ev.Taken = o.mgr.claim(h.Node, o)
		o.asking = h.Node
		o.step(ev)
		return
	}
	if _, bye := in.msg.(*wire.Bye); !bye && !o.shared.told && o.carries(in.line) {
		o.announce() // the dialler has accepted us too
	}
	before := len(o.pending)
	o.step(ev)
	if len(o.pending) > before {
		o.pending[len(o.pending)-1].size = in.size
		o.pendSize += in.size
		if o.pendSize > holdBytes && !o.held {
			o.held = true
			o.step(evHold{true})
		}
	}
	o.shared.mu.Lock()
	if s := o.shared.session; s != nil {
		s.last, s.rtt = o.m.lastRecv, o.m.rtt
	}
	o.shared.mu.Unlock()
}

// taken drops the event that the consumer took.
func (o *owner) taken() {
	o.pendSize -= o.pending[0].size
	o.pending[0] = waiting{}
	if o.pending = o.pending[1:]; len(o.pending) == 0 {
		o.pending = nil
	}
	if o.held && o.pendSize < releaseBytes {
		o.held = false
		o.step(evHold{false})
	}
}

// conn returns the connection on which the session sends, nil without one.
func (o *owner) conn() *channel.Conn {
	o.shared.mu.Lock()
	defer o.shared.mu.Unlock()
	if o.shared.session == nil {
		return nil
	}
	return o.shared.session.sender.conn
}

// checkKey replaces a connection whose key is no longer accepted.
func (o *owner) checkKey() {
	if c := o.conn(); c != nil && !o.mgr.currentKeys().Has(c.Key()) {
		o.step(evRenew{KeyGone: true})
	}
}

// rekeyIfExhausted replaces a connection that has sent enough under one key.
func (o *owner) rekeyIfExhausted() {
	if c := o.conn(); c != nil && c.Records() > maxRecords {
		o.step(evRenew{})
	}
}

// resolve looks names up in the background, if there are any and it was not
// done just now.
func (o *owner) resolve(ctx context.Context) {
	t := o.targets
	if !t.due(time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	o.tasks.Go(func() {
		defer cancel()
		next, err := t.resolve(ctx, o.mgr.cfg.Resolve)
		if err != nil && !errors.Is(err, context.Canceled) {
			o.log.Warn("cannot resolve a peer's name", "err", err)
		}
		if next != nil {
			o.post(inTargets{next, true})
		}
	})
}
