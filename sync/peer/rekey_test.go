package peer

import (
	"strings"
	"testing"
	"time"

	"sasyncd/sync/channel"
	"sasyncd/sync/wire"
)

// chat sends numbered messages in both directions all the time and checks
// that each arrives once and in order.
func chat(t *testing.T, a, b *node, pause time.Duration) (stop func()) {
	t.Helper()
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := uint64(0); ; i++ {
			select {
			case <-end:
				return
			default:
			}
			for _, x := range [][2]*node{{a, b}, {b, a}} {
				if s := x[0].session(x[1].name); s == nil || !s.Send(&wire.Ack{Seq: i}) {
					t.Errorf("%s cannot send message %d", x[0].name, i)
					return
				}
			}
			time.Sleep(pause)
		}
	}()
	return func() {
		t.Helper()
		close(end)
		<-done
		time.Sleep(time.Second)
		for _, n := range []*node{a, b} {
			next := uint64(0)
			for _, ev := range n.seen() {
				if ack, ok := ev.Message.(*wire.Ack); ok {
					if ack.Seq != next {
						t.Errorf("%s: message %d where %d was due", n.name, ack.Seq, next)
						return
					}
					next++
				}
			}
			if next == 0 {
				t.Errorf("%s received nothing", n.name)
			}
		}
	}
}

// Keys are added, swapped and removed one node at a time, under traffic: the
// session goes on, on connections under the new key.
func TestKeyRotationKeepsTheSession(t *testing.T) {
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		bubble(t, 1, func(t *testing.T, w *world) {
			nodes := [2]*node{w.start(1, []int{2}), w.start(2, []int{1})}
			a, b := nodes[0], nodes[1]
			until(t, time.Second, "a session", both(a, b))
			stop := chat(t, a, b, time.Millisecond)
			onlyB := derive(t, hexB)
			for _, ks := range []channel.Keys{derive(t, hexA, hexB), derive(t, hexB, hexA), onlyB} {
				for _, i := range order {
					nodes[i].SetKeys(ks)
					time.Sleep(time.Second)
				}
			}
			stop()
			if a.count(Up) != 1 || b.count(Up) != 1 || a.count(Down)+b.count(Down) != 0 {
				t.Error("the session was interrupted")
			}
			if key := a.session(b.name).Stats().Key; !onlyB.Has(key) {
				t.Error("the connection is under the removed key")
			}
			if n := w.net.Connections(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// A key that is removed on one side only ends the session after a while.
func TestRemovedKeyEndsTheSession(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a, b := w.start(1, []int{2}), w.start(2, []int{1})
		until(t, time.Second, "a session", both(a, b))
		removed := time.Now()
		a.SetKeys(derive(t, hexB))
		until(t, time.Minute, "the end", func() bool { return a.count(Down) == 1 && b.count(Down) == 1 })
		if d := time.Since(removed); d < keyGrace-time.Second || d > keyGrace+time.Second {
			t.Errorf("ended after %v", d)
		}
		time.Sleep(time.Minute)
		if a.count(Up) != 1 {
			t.Error("they connected again")
		}
		if why := a.trouble(b.name); !strings.Contains(why.Text, "refused the shared key") {
			t.Errorf("told as %s", why)
		}
	})
}

func TestRenewalKeepsTheSession(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a, b := w.start(1, []int{2}), w.start(2, []int{1})
		until(t, time.Second, "a session", both(a, b))
		accepted := func() uint64 { return a.Counters().Up.Load() + b.Counters().Up.Load() }
		made := accepted()
		stop := chat(t, a, b, time.Millisecond)
		for i := range 10 { // by either side, and by both at once
			time.Sleep(time.Second)
			if i%3 != 0 {
				a.owners[0].post(evRenew{})
			}
			if i%3 != 1 {
				b.owners[0].post(evRenew{})
			}
		}
		time.Sleep(time.Second)
		stop()
		// Where both renew, one of the two connections is refused.
		if got := accepted() - made; got < 10 || got > 14 {
			t.Errorf("%d new connections, want 10 and up to 4 that are refused", got)
		}
		if a.count(Up) != 1 || b.count(Up) != 1 || w.net.Connections() != 1 {
			t.Error("the session was interrupted")
		}
	})
}

// The move of a session may be cut off in any moment: then it ends on both
// sides and begins anew, and messages never skip.
func TestInterruptedMoveEndsTheSession(t *testing.T) {
	for step := range 12 {
		bubble(t, 1, func(t *testing.T, w *world) {
			a, b := w.start(1, []int{2}), w.start(2, []int{1})
			until(t, time.Second, "a session", both(a, b))
			ks := derive(t, hexB, hexA)
			b.SetKeys(ks)
			a.SetKeys(derive(t, hexB)) // replaces the connection
			time.Sleep(time.Duration(step) * time.Millisecond)
			w.net.Cut(at(0, 1), at(0, 2))
			time.Sleep(time.Minute)
			if a.session(b.name) != nil || b.session(a.name) != nil {
				t.Fatalf("step %d: a session over a cut link", step)
			}
			w.net.Heal(at(0, 1), at(0, 2))
			until(t, 15*time.Second, "a new session", both(a, b))
			time.Sleep(20 * time.Second)
			if !both(a, b)() || w.net.Connections() != 1 {
				t.Fatalf("step %d: %d connections", step, w.net.Connections())
			}
			for _, n := range []*node{a, b} {
				if n.count(Up) != n.count(Down)+1 {
					t.Errorf("step %d: %d sessions, %d ends", step, n.count(Up), n.count(Down))
				}
			}
		})
		if t.Failed() {
			return
		}
	}
}
