package engine

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestElectorLostActsOncePerGroup: an elector that dies says so for each group
// that it moves, and each is fenced once.
func TestElectorLostActsOncePerGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fenced := make(map[netip.Addr]int)
		w := newWorld(t, 1)
		w.more = []GroupConfig{{Name: "carp2"}, {Name: "carp3"}}
		n := w.nodes[0]
		n.fence = func(_ context.Context, vips []netip.Addr) error { fenced[vips[0]]++; return nil }
		n.boot(1)
		defer w.stop()
		groups := []string{simGroup, "carp2", "carp3"}
		vip := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}) }
		for i, g := range groups {
			n.elector.events <- ElectorEvent{Kind: ElectorState, Group: g, Role: wire.RoleMaster, Term: 1,
				VIPs: []netip.Addr{vip(i)}}
		}
		synctest.Wait()
		for i, g := range groups {
			n.elector.events <- ElectorEvent{Kind: ElectorLost, Group: g, Reason: "killed"}
			synctest.Wait()
			for j := range groups {
				want := 0
				if j <= i {
					want = 1
				}
				if fenced[vip(j)] != want {
					t.Errorf("after the word for %s: group %d was fenced %d times, want %d", g, j, fenced[vip(j)], want)
				}
			}
		}
		// A word for no group is for all of them.
		n.elector.events <- ElectorEvent{Kind: ElectorLost, Reason: "killed"}
		synctest.Wait()
		for j := range groups {
			if fenced[vip(j)] != 2 {
				t.Errorf("after a word for all: group %d was fenced %d times, want 2", j, fenced[vip(j)])
			}
		}
	})
}

// oddKernel fails some readings, and cannot tell what one SA is.
type oddKernel struct {
	*simKernel
	fails atomic.Int32 // readings that fail from now on
	odd   atomic.Pointer[sadb.SAKey]
	slow  atomic.Int64 // for how long a reading goes on, in nanoseconds
}

func (k *oddKernel) Scan(ctx context.Context, f func(*sadb.Chunk) error) error {
	err := k.simKernel.Scan(ctx, func(c *sadb.Chunk) error {
		time.Sleep(time.Duration(k.slow.Load()))
		if odd := k.odd.Load(); odd != nil {
			whole := c.SA
			keys := make([]sadb.SAKey, len(c.Readings))
			for i := range c.Readings {
				if keys[i] = c.Readings[i].Key; keys[i] == *odd {
					c.Readings[i].Config++ // not recognised
				}
			}
			c.SA = func(i int) (*sadb.SA, error) {
				if keys[i] == *odd {
					return nil, errors.New("attribute 99 is too short")
				}
				return whole(i)
			}
		}
		return f(c)
	})
	if k.fails.Load() > 0 {
		k.fails.Add(-1)
		return errors.New("interrupted system call")
	}
	return err
}

// odd gives a node a kernel of that kind.
func (n *simNode) odd() *oddKernel {
	k := &oddKernel{simKernel: n.kernel}
	n.between(func() { n.engine.kernel = k })
	return k
}

// between runs f in the engine, while no reading is under way.
func (n *simNode) between(f func()) {
	n.w.t.Helper()
	for done := false; !done; time.Sleep(time.Millisecond) {
		if err := n.engine.do(context.Background(), func() {
			if done = !n.engine.dump.running; done {
				f()
			}
		}); err != nil {
			n.w.t.Fatal(err)
		}
	}
}

// TestFailedReadingIsRepeated: what a reading was asked for is not forgotten when
// that reading, or the next, fails.
func TestFailedReadingIsRepeated(t *testing.T) {
	for _, fails := range []int32{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			w, r := pair(t, 1)
			defer w.stop()
			b, k := w.nodes[1], w.nodes[1].odd()
			b.between(func() { b.engine.cfg.Audit = time.Hour }) // only what is asked for
			time.Sleep(5 * time.Second)
			k.slow.Store(int64(50 * time.Millisecond))
			stray := tunnel(r, 9, false)
			b.kernel.foreign(stray[0])
			time.Sleep(foreignDelay + 60*time.Millisecond) // the reading is under way
			k.fails.Store(fails)
			time.Sleep(3 * time.Second)
			if b.kernel.has(stray[0].SA.Key) {
				t.Errorf("%d readings failed: the foreign SA that they were to show is still there", fails)
			}
			w.equal("after failed readings")
		})
	}
}

// TestFailingReadingsAreFew: while every reading fails there are not more of them
// than there would be otherwise, after the first seconds.
func TestFailingReadingsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 1)
		defer w.stop()
		k := w.nodes[0].odd()
		k.fails.Store(1 << 20)
		time.Sleep(20 * time.Second)
		before := w.counts(0).DumpErrors
		time.Sleep(20 * time.Second)
		if n := w.counts(0).DumpErrors - before; n < 15 || n > 21 {
			t.Errorf("%d failed readings in 20 s at an interval of 1 s", n)
		}
	})
}

// TestUndecodableSAIsNotGone: an SA that is in the kernel's tables and cannot be
// decoded is not taken for deleted, on neither side.
func TestUndecodableSAIsNotGone(t *testing.T) {
	for side := range 2 {
		synctest.Test(t, func(t *testing.T) {
			w, r := pair(t, 0)
			defer w.stop()
			ops := tunnel(r, 1, false)
			w.nodes[0].kernel.foreign(ops...)
			time.Sleep(3 * time.Second)
			seq, k := w.nodes[0].status().Seq, w.nodes[side].odd()
			repairs := w.counts(side).Repairs
			k.odd.Store(&ops[0].SA.Key)
			time.Sleep(10 * time.Second)
			if s := w.nodes[0].status(); s.Seq != seq || s.SAs != 2 || s.Held != 0 {
				t.Errorf("node %d cannot decode an SA: the master publishes %d SAs, has sent %d changes, holds back %d",
					side, s.SAs, s.Seq-seq, s.Held)
			}
			if n := w.counts(side).Repairs - repairs; n != 0 {
				t.Errorf("node %d cannot decode an SA: %d repairs of what is there", side, n)
			}
			w.equal("while an SA cannot be decoded")
			// It is the SA as it was, so what is counted goes on.
			w.nodes[0].kernel.traffic(500)
			time.Sleep(2 * time.Second)
			if got := w.nodes[1].status().PacketsOut; got != 500 {
				t.Errorf("node %d cannot decode an SA: the standby knows of %d packets, want 500", side, got)
			}
		})
	}
}

// TestQuestionsEndWithWhoAsked: a question that nobody waits for any more is not
// kept, however busy the engine is when it ends.
func TestQuestionsEndWithWhoAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 1)
		defer w.stop()
		a := w.nodes[0]
		w.losing(func(from int, m wire.Message) bool { return from == 1 && m.Type() == wire.TypeInventory })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := a.engine.Compare(ctx, "10.9.0.2"); err == nil {
				t.Error("compared without an answer")
			}
		}()
		time.Sleep(time.Second)
		busy := make(chan struct{})
		go func() {
			defer close(busy)
			if err := a.engine.do(t.Context(), func() { time.Sleep(5 * time.Second) }); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		cancel()
		<-done
		<-busy
		time.Sleep(time.Second)
		kept := -1
		if err := a.engine.do(t.Context(), func() { kept = len(a.engine.questions) }); err != nil || kept != 0 {
			t.Errorf("%d questions are kept, %v", kept, err)
		}
	})
}
