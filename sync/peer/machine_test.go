package peer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// model obeys a machine as a runner would and checks what the machine may
// rely on and what may be relied on of it.
type model struct {
	m       *machine
	now     time.Time
	open    map[connID]bool // connections the runner has
	dialled map[connID]bool
	dials   map[netip.AddrPort]bool
	greeted map[connID]bool
	up      connID
	moving  connID
	last    connID
}

func newModel() *model {
	return &model{
		m: newMachine(self{nodeID(1), 100, 1, 1}), now: time.Unix(1e9, 0), open: map[connID]bool{},
		dialled: map[connID]bool{},
		dials:   map[netip.AddrPort]bool{}, greeted: map[connID]bool{},
	}
}

func (x *model) step(ev event) (acts []string, err error) {
	for _, a := range x.m.Step(x.now, ev) {
		acts = append(acts, fmt.Sprintf("%T%+v", a, a))
		if err := x.do(a); err != nil {
			return acts, fmt.Errorf("%w (on %T%+v: %v)", err, ev, ev, acts)
		}
	}
	if at := x.m.Deadline(); !at.IsZero() && !at.After(x.now) {
		return acts, fmt.Errorf("the deadline %v is in the past (on %T%+v)", at.Sub(x.now), ev, ev)
	}
	if len(x.dials) == 0 && len(x.greeted) == 0 && x.up == 0 && len(x.m.addrs) > 0 && x.m.Deadline().IsZero() {
		return acts, errors.New("nothing will ever happen")
	}
	return acts, nil
}

var errOrderOfActions = errors.New("an action at the wrong time")

func (x *model) do(a action) error {
	need := func(ok bool, what string) error {
		if ok {
			return nil
		}
		return fmt.Errorf("%w: %T%+v: %s", errOrderOfActions, a, a, what)
	}
	end := func(c connID) {
		delete(x.open, c)
		delete(x.greeted, c)
	}
	switch a := a.(type) {
	case actDial:
		err := need(!x.dials[a.Addr], "is being dialled")
		x.dials[a.Addr] = true
		return err
	case actCancel:
		err := need(x.dials[a.Addr], "is not being dialled")
		delete(x.dials, a.Addr)
		return err
	case actGreet:
		err := need(x.open[a.Conn] && !x.greeted[a.Conn], "is not open or has been greeted")
		x.greeted[a.Conn] = true
		if x.dialled[a.Conn] {
			n := 0
			for c := range x.greeted {
				if x.dialled[c] && c != x.up && c != x.moving {
					n++
				}
			}
			err = errors.Join(err, need(n == 1, "another dialled connection waits for its answer"))
		}
		return err
	case actRead:
		return need(x.open[a.Conn] && (a.Conn == x.up || a.Conn == x.moving), "carries no session")
	case actShut:
		err := need(x.open[a.Conn], "is not open")
		end(a.Conn)
		return err
	case actDrop:
		if a.Conn == x.up && x.moving != 0 {
			x.up, x.moving = x.moving, 0
		}
		end(a.Conn)
	case actUp:
		err := need(x.up == 0 && x.open[a.Conn] && x.greeted[a.Conn],
			"a session is up, or the connection is not greeted")
		x.up = a.Conn
		return err
	case actDown:
		err := need(x.up != 0, "no session is up")
		x.up, x.moving = 0, 0
		return err
	case actMove:
		err := need(x.up == a.From && x.open[a.To] && x.moving == 0, "cannot move there")
		x.moving = a.To
		return err
	case actSend, actDeliver:
		return need(x.up != 0, "no session is up")
	}
	return nil
}

// random returns an event that a runner could report now.
func (x *model) random(r *rand.Rand) event {
	pick := func(m map[connID]bool) connID {
		for c := connID(1); c <= x.last; c++ {
			if m[c] && r.IntN(2) == 0 {
				return c
			}
		}
		return connID(r.IntN(int(x.last) + 1))
	}
	hello := &wire.Hello{
		Min: 1, Max: uint16(1 + r.IntN(2)), Node: nodeID(2), Nonce: 200, Gen: x.m.gen + uint32(r.IntN(3)),
		Move: r.IntN(2) == 0,
	}
	switch r.IntN(12) {
	case 0:
		hello.Nonce = uint64(r.IntN(3)) * 100
	case 1:
		hello.Node = nodeID(r.IntN(3))
	case 2:
		hello.Min, hello.Max = 2, 2
	}
	switch r.IntN(16) {
	case 0, 1, 2:
		for a := range x.dials {
			delete(x.dials, a)
			x.last++
			x.open[x.last], x.dialled[x.last] = true, true
			return evDialled{x.last, a}
		}
	case 3:
		for a := range x.dials {
			delete(x.dials, a)
			return evDialFailed{a, errors.New("refused")}
		}
	case 4, 5:
		x.last++
		x.open[x.last] = true
		return evAccepted{x.last, at(r.IntN(2), 2)}
	case 6, 7, 8:
		ev := evReceived{Conn: pick(x.open), Msg: hello}
		if r.IntN(20) == 0 {
			ev.Taken = "another"
		}
		return ev
	case 9:
		return evReceived{Conn: pick(x.open), Msg: &wire.Bye{Code: wire.ByeCode(1 + r.IntN(10))}}
	case 10:
		return evReceived{Conn: pick(x.open), Msg: []wire.Message{&wire.Ack{}, &wire.Ping{}, &wire.Pong{},
			&wire.Unknown{Of: 200}}[r.IntN(4)]}
	case 11:
		c := pick(x.open)
		return evLost{c, errors.New("reset"), r.IntN(2) == 0}
	case 12:
		if x.moving != 0 {
			return evMoved{x.up}
		}
	case 13:
		return []event{evKick{}, evRenew{}, evRenew{true}, evHold{r.IntN(2) == 0},
			evClose{wire.ByeSlow, "slow"}}[r.IntN(5)]
	case 14:
		return evAddrs{[]netip.AddrPort{netip.AddrPortFrom(at(0, 2), 500),
			netip.AddrPortFrom(at(1, 2), 500)}[:r.IntN(3)]}
	}
	return nil
}

// pass lets time go by, often exactly to the deadline.
func (x *model) pass(r *rand.Rand) {
	switch at := x.m.Deadline(); {
	case r.IntN(3) == 0:
	case r.IntN(2) == 0 && at.After(x.now):
		x.now = at
	default:
		x.now = x.now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
	}
}

// Whatever comes in whatever order, the machine does nothing impossible, never
// asks to be called in the past and never falls asleep for good.
func TestMachineIsSound(t *testing.T) {
	for seed := range uint64(800) {
		r, x := sadbtest.NewRand(seed), newModel()
		if _, err := x.step(evAddrs{[]netip.AddrPort{netip.AddrPortFrom(at(0, 2), 500)}}); err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			x.pass(r)
			if _, err := x.step(x.random(r)); err != nil {
				t.Fatalf("seed %d, event %d: %v", seed, i, err)
			}
		}
	}
}

func FuzzMachine(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		r, x := rand.New(rand.NewPCG(a, b)), newModel()
		for range 500 {
			x.pass(r)
			if _, err := x.step(x.random(r)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// connect brings a session up on a dialled connection.
func (x *model) connect(t *testing.T) connID {
	t.Helper()
	a := netip.AddrPortFrom(at(0, 2), 500)
	for _, ev := range []event{evAddrs{[]netip.AddrPort{a}}, evDialled{1, a},
		evReceived{Conn: 1, Msg: &wire.Hello{Min: 1, Max: 1, Node: nodeID(2), Nonce: 200}}} {
		if d, ok := ev.(evDialled); ok {
			x.last, x.open[d.Conn], x.dialled[d.Conn] = 1, true, true
			delete(x.dials, a)
		}
		if _, err := x.step(ev); err != nil {
			t.Fatal(err)
		}
	}
	if x.up != 1 {
		t.Fatal("no session came up")
	}
	return x.up
}

func TestConnectionIsRenewedDaily(t *testing.T) {
	x := newModel()
	c := x.connect(t)
	start := x.now
	for len(x.dials) == 0 {
		if x.now = x.m.Deadline(); x.now.Sub(start) > 2*renewAfter {
			t.Fatal("the connection is never renewed")
		}
		if _, err := x.step(nil); err != nil {
			t.Fatal(err)
		}
		if _, err := x.step(evReceived{Conn: c, Msg: &wire.Ping{}}); err != nil {
			t.Fatal(err)
		}
	}
	if d := x.now.Sub(start); d != renewAfter {
		t.Errorf("renewed after %v", d)
	}
}

// A consumer that does not take messages must not look like a dead peer.
func TestHeldSessionIsNotDead(t *testing.T) {
	x := newModel()
	x.connect(t)
	x.step(evHold{true})
	for range 100 {
		x.now = x.m.Deadline()
		x.step(nil)
	}
	if x.up == 0 {
		t.Error("it was taken for dead while it was not listened to")
	}
	x.step(evHold{false})
	for released := x.now; x.up != 0; {
		if x.now = x.m.Deadline(); x.now.Sub(released) > deadAfter {
			t.Fatal("it is never taken for dead")
		}
		x.step(nil)
	}
}
