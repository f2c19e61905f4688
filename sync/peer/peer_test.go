package peer

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// bubble runs a test in virtual time and shows what the nodes logged if it
// fails.
func bubble(t *testing.T, links int, f func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, links)
		defer w.showOnFailure()
		f(t, w)
	})
}

func both(a, b *node) func() bool {
	return func() bool { return a.session(b.name) != nil && b.session(a.name) != nil }
}

func TestNodesMeetAndTalk(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a, b := w.start(1, []int{2}), w.start(2, []int{1})
		until(t, time.Second, "a session", both(a, b))
		for _, x := range [][2]*node{{a, b}, {b, a}} {
			from, to := x[0], x[1]
			s := from.session(to.name)
			if got := s.Hello().Node; s.Peer() != to.name || s.Version() != 1 || got == from.cfg.Hello().Node {
				t.Errorf("%s: session with %s, node %s, version %d", from.name, s.Peer(), got, s.Version())
			}
			for i := range 100 {
				if !s.Send(&wire.Ack{Seq: uint64(i)}) {
					t.Fatalf("message %d is not taken", i)
				}
			}
			until(t, time.Second, "100 messages", func() bool { return to.count(Message) == 100 })
			next := uint64(0)
			for _, ev := range to.seen() {
				if ack, ok := ev.Message.(*wire.Ack); ok {
					if ack.Seq != next || ev.Session != to.session(from.name) {
						t.Fatalf("message %d came as number %d", ack.Seq, next)
					}
					next++
				}
			}
			if ev := to.seen()[0]; ev.Kind != Up {
				t.Errorf("the first event is %s", ev.Kind)
			}
		}
		time.Sleep(time.Hour)
		if a.count(Up) != 1 || b.count(Up) != 1 || a.count(Down)+b.count(Down) != 0 {
			t.Error("the session did not last")
		}
		st := a.session(b.name).Stats()
		if st.RTT < 2*time.Millisecond || st.RTT > 10*time.Millisecond || time.Since(st.LastReceived) > time.Second ||
			st.In == 0 || st.Out == 0 ||
			st.Queued != 0 || time.Since(st.Since) < time.Hour || w.keys.Index(st.Key) != 0 || !st.Remote.IsValid() {
			t.Errorf("stats %+v", st)
		}
		a.stop()
		until(t, 2*time.Second, "the end", func() bool { return b.count(Down) == 1 })
		if why := b.last(Down).Reason; why.Code != wire.ByeShutdown || !why.Remote {
			t.Errorf("the end is told as %s", why)
		}
	})
}

// However the two dial at each other, one connection stays and nobody notices
// the other.
func TestSimultaneousDialLeavesOneConnection(t *testing.T) {
	for seed := range uint64(60) {
		r := sadbtest.NewRand(seed)
		wait := time.Duration(r.IntN(20000)) * time.Microsecond
		links := 1 + r.IntN(2)
		bubble(t, links, func(t *testing.T, w *world) {
			first, second := 1, 2
			if r.IntN(2) == 0 {
				first, second = 2, 1
			}
			a := w.start(first, []int{second})
			time.Sleep(wait)
			b := w.start(second, []int{first})
			if r.IntN(2) == 0 { // both at the same moment
				a.Kick()
				b.Kick()
			}
			until(t, 3*time.Second, "a session", both(a, b))
			time.Sleep(time.Minute)
			if n := w.net.Connections(); n != 1 {
				t.Errorf("seed %d: %d connections", seed, n)
			}
			if a.count(Up) != 1 || b.count(Up) != 1 || a.count(Down)+b.count(Down) != 0 {
				t.Errorf("seed %d: %d and %d sessions", seed, a.count(Up), b.count(Up))
			}
			sa, sb := a.session(b.name).Stats(), b.session(a.name).Stats()
			if sa.Dialled == sb.Dialled {
				t.Errorf("seed %d: they use different connections: %+v %+v", seed, sa, sb)
			}
		})
		if t.Failed() {
			return
		}
	}
}

func TestKillAndRecover(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a, b := w.start(1, []int{2}), w.start(2, []int{1})
		until(t, time.Second, "a session", both(a, b))
		time.Sleep(time.Minute)

		// The node vanishes without a word.
		old := a.session(b.name)
		w.net.Cut(at(0, 1), at(0, 2))
		cut := time.Now()
		until(t, 4*time.Second, "the loss to be noticed", func() bool { return a.count(Down) == 1 })
		if d := time.Since(cut); d > deadAfter+10*time.Millisecond || d < deadAfter-pingEvery {
			t.Errorf("noticed after %v", d)
		}
		if why := a.last(Down).Reason; why.Code != wire.ByeTimeout || a.last(Down).Session != old {
			t.Errorf("told as %s", why)
		}
		if old.Send(&wire.Ping{}) || old.SendCounters(&wire.Counters{}) || old.Queued() != 0 {
			t.Error("a session that is over takes messages")
		}
		old.Close(wire.ByeSlow, "too late") // must do nothing
		b.stop()
		w.net.Heal(at(0, 1), at(0, 2))
		b = w.start(2, []int{1})
		until(t, time.Second, "the new process", both(a, b))
		if a.session(b.name) == old {
			t.Error("the old session lives again")
		}

		// A machine that loses its power and is back before that is noticed.
		time.Sleep(time.Minute)
		ups := a.count(Up)
		w.net.Crash(at(0, 2))
		b.stop()
		if a.count(Down) != ups-1 {
			t.Fatal("the loss was noticed at once")
		}
		next := w.start(2, []int{1})
		until(t, 100*time.Millisecond, "the next process", func() bool {
			return a.count(Up) == ups+1 &&
				both(a, next)()
		})
		if why := a.last(Down).Reason; !strings.Contains(why.Text, "another one") {
			t.Errorf("told as %s", why)
		}
		time.Sleep(time.Minute)
		if a.count(Up) != ups+1 || w.net.Connections() != 1 {
			t.Errorf("%d sessions more, %d connections", a.count(Up)-ups, w.net.Connections())
		}
	})
}

func TestBackOffAndKick(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a := w.start(1, []int{2})
		time.Sleep(time.Hour) // far into the back-off
		if n := strings.Count(w.log.String(), "not connected"); n < 350 || n > 375 {
			t.Errorf("%d attempts in an hour, want one in 10 s", n)
		}
		b := w.start(2, []int{})
		time.Sleep(100 * time.Millisecond)
		// it cannot reach node1
		if err := b.SetPeers([]Peer{{Name: "node1", Addrs: []string{"10.0.0.1:1"}}}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		a.Kick()
		until(t, time.Minute, "a session", both(a, b))
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("connected %v after the kick", d)
		}
	})
}

func TestSlowReaderIsCutOff(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a := w.start(1, []int{2}, func(c *Config) { c.QueueLimit = 1 << 20 })
		b := w.start(2, []int{1})
		until(t, time.Second, "a session", both(a, b))
		time.Sleep(time.Minute)
		b.pause(true)
		s := a.session(b.name)
		big := &wire.Digest{Buckets: make([]uint64, 8000)}
		sent := 0
		for start := time.Now(); s.Send(big); sent++ {
			if time.Since(start) > 0 {
				t.Fatal("Send takes time")
			}
			time.Sleep(10 * time.Millisecond)
			start = time.Now()
			if sent > 1000 {
				t.Fatal("the queue has no bound")
			}
		}
		if q := s.Queued(); q > 1<<20 || q < 1<<20-70000 {
			t.Errorf("%d bytes are queued", q)
		}
		// Keepalives go both ways though nothing is taken: nobody is dead.
		for range 10 {
			if a.session(b.name) != s {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if a.session(b.name) != s || b.session(a.name) == nil {
			t.Fatalf("the session ended by itself: %s", a.trouble(b.name))
		}
		s.Close(wire.ByeSlow, "the queue is full")
		until(t, 2*time.Second, "the end", func() bool { return a.count(Down) == 1 })
		if why := a.last(Down).Reason; why.Code != wire.ByeSlow || why.Remote {
			t.Errorf("told as %s", why)
		}
		b.pause(false)
		until(t, 5*time.Second, "the next session", func() bool { return a.count(Up) == 2 && both(a, b)() })
		if n := b.count(Message); n == 0 || n > sent {
			t.Errorf("%d of %d messages arrived", n, sent)
		}
		// Per session: Up, messages, Down, in this order.
		state := Down
		for _, ev := range b.seen() {
			if (ev.Kind == Up) != (state == Down) {
				t.Fatalf("%s came after %s", ev.Kind, state)
			}
			state = ev.Kind
		}
	})
}

// A consumer that pauses for long holds the sender back but loses nothing.
func TestPausedConsumerLosesNothing(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a, b := w.start(1, []int{2}), w.start(2, []int{1})
		until(t, time.Second, "a session", both(a, b))
		b.pause(true)
		s := a.session(b.name)
		for i := range 100 { // 6 MB: more than is held on either side
			if !s.Send(&wire.Digest{Seq: uint64(i), Buckets: make([]uint64, 8000)}) {
				t.Fatal("the queue is full")
			}
		}
		time.Sleep(4 * time.Second)
		b.pause(false)
		until(t, 5*time.Second, "all messages", func() bool { return b.count(Message) == 100 })
		if a.count(Down)+b.count(Down) != 0 {
			t.Errorf("the session ended: %s", a.trouble(b.name))
		}
	})
}

func TestSecondAddressIsUsed(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		cut := func(link int) { w.net.Cut(at(link, 1), at(link, 2)) }
		heal := func(link int) { w.net.Heal(at(link, 1), at(link, 2)) }
		on := func(n *node) int {
			return int(n.session("node" + map[string]string{"node1": "2",
				"node2": "1"}[n.name]).Stats().Remote.Addr().As4()[1])
		}
		cut(0)
		a, b := w.start(1, []int{2}), w.start(2, []int{1})
		until(t, time.Second, "a session over the second link", both(a, b))
		if on(a) != 1 || on(b) != 1 {
			t.Fatalf("links %d and %d", on(a), on(b))
		}
		heal(0)
		time.Sleep(time.Minute)
		if a.count(Up) != 1 || on(a) != 1 {
			t.Error("a session that works was left")
		}
		// Every phase of the keepalive.
		for i := range 10 {
			bad := on(a)
			time.Sleep(time.Duration(i) * 100 * time.Millisecond)
			ups := a.count(Up)
			cut(bad)
			start := time.Now()
			until(t, deadAfter, "the other link", func() bool {
				return a.count(Up) > ups && both(a, b)() &&
					on(a) != bad && on(b) != bad
			})
			if d := time.Since(start); d > suspectAfter+200*time.Millisecond {
				t.Errorf("the other link was used after %v", d)
			}
			heal(bad)
			time.Sleep(20 * time.Second)
			if n := w.net.Connections(); n != 1 || a.count(Up) != ups+1 {
				t.Fatalf("%d connections, %d sessions more", n, a.count(Up)-ups)
			}
		}
	})
}

func TestCountersKeepTheirPlaceAndDoNotPileUp(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a, b := w.start(1, []int{2}), w.start(2, []int{1})
		until(t, time.Second, "a session", both(a, b))
		s := a.session(b.name)
		b.pause(true)
		for i := range 90 { // fills what lies between them
			s.Send(&wire.Digest{Seq: uint64(i), Buckets: make([]uint64, 8000)})
		}
		time.Sleep(time.Second)
		if !s.SendCounters(&wire.Counters{Stream: 1, Epoch: 1}) ||
			!s.SendCounters(&wire.Counters{Stream: 2, Epoch: 1}) {
			t.Fatal("counters are not taken")
		}
		if s.SendCounters(&wire.Counters{Stream: 1, Epoch: 2}) {
			t.Error("counters pile up")
		}
		s.Send(&wire.Ack{Seq: 1})
		time.Sleep(3 * time.Second)
		b.pause(false)
		until(t, 5*time.Second, "all messages", func() bool { return b.count(Message) == 93 })
		var tail []wire.Message
		for _, ev := range b.seen() {
			if ev.Kind == Message {
				tail = append(tail, ev.Message)
			}
		}
		tail = tail[90:]
		c1, ok1 := tail[0].(*wire.Counters)
		c2, ok2 := tail[1].(*wire.Counters)
		if _, ok := tail[2].(*wire.Ack); !ok || !ok1 || !ok2 || c1.Stream != 1 || c2.Stream != 2 {
			t.Fatalf("the order is %v", tail)
		}
		if age := time.Duration(c1.AgeMicros) * time.Microsecond; age < 3*time.Second || age > 4*time.Second {
			t.Errorf("counters that waited 3 s say they are %v old", age)
		}
		if !s.SendCounters(&wire.Counters{Stream: 1, Epoch: 3}) {
			t.Error("counters are not taken although none wait")
		}
	})
}

func TestPeersCanBeChanged(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a, b, c := w.start(1, []int{2}), w.start(2, []int{1}), w.start(3, []int{1})
		until(t, time.Second, "a session", both(a, b))
		if c.count(Up) != 0 {
			t.Fatal("a node that is not configured got in")
		}
		if err := a.SetPeers([]Peer{{"node2", addrs(1, 2)}, {"node3", addrs(1, 3)}}); err != nil {
			t.Fatal(err)
		}
		until(t, time.Second, "the new peer", both(a, c))
		if err := a.SetPeers([]Peer{{"node3", addrs(1, 3)}}); err != nil {
			t.Fatal(err)
		}
		until(t, 2*time.Second, "the end", func() bool { return b.count(Down) == 1 && a.count(Down) == 1 })
		if why := b.last(Down).Reason; why.Code != wire.ByeStranger || !why.Remote {
			t.Errorf("told as %s", why)
		}
		time.Sleep(time.Minute)
		if a.count(Up) != 2 || c.count(Up) != 1 || len(a.Status()) != 1 {
			t.Error("the change disturbed others")
		}
		for _, bad := range [][]Peer{{{"x", nil}}, {{"", addrs(1, 2)}}, {{"x", []string{"10.0.0.1"}}},
			{{"x", []string{"a:0"}}},
			{{"x", addrs(1, 2)}, {"x", addrs(1, 3)}}} {
			if a.SetPeers(bad) == nil {
				t.Errorf("%v is accepted", bad)
			}
		}
	})
}

func TestNamesAreLookedUp(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		var now atomic.Pointer[[]netip.Addr]
		now.Store(new([]netip.Addr))
		a := w.start(1, []int{}, func(c *Config) {
			c.Peers = []Peer{{"node2", []string{"gw2.example:500"}}}
			c.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
				if host != "gw2.example" {
					t.Errorf("looked up %s", host)
				}
				return *now.Load(), nil
			}
		})
		b := w.start(2, []int{1})
		time.Sleep(time.Minute)
		if a.count(Up)+b.count(Up) != 0 {
			t.Fatal("connected without an address")
		}
		now.Store(&[]netip.Addr{at(0, 2)})
		until(t, 20*time.Second, "a session", both(a, b))
	})
}
