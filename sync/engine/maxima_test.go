package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// stubbornKernel refuses to set counters while no is set.
type stubbornKernel struct {
	*simKernel
	no atomic.Bool
}

func (k *stubbornKernel) Apply(ctx context.Context, ops []sadb.Op) []error {
	errs := make([]error, len(ops))
	for i, op := range ops {
		if op.Kind == sadb.OpSetCounters && k.no.Load() {
			errs[i] = errors.New("no buffer space available")
			continue
		}
		errs[i] = k.simKernel.Apply(ctx, ops[i:i+1])[0]
	}
	return errs
}

// TestMaximaReachTheSurvivor: in a split both nodes have sent. However often the
// link fails when they meet again, the survivor jumps above what the other sent.
func TestMaximaReachTheSurvivor(t *testing.T) {
	const sent = 200_000_000 // beyond the margin
	silence := func(who func(from int) bool) func(*world, *stubbornKernel) {
		return func(w *world, _ *stubbornKernel) {
			w.losing(func(from int, m wire.Message) bool { return who(from) })
			w.connect(0, 1)
			time.Sleep(100 * time.Millisecond)
			w.cut(0, 1)
			w.losing(nil)
			w.connect(0, 1)
		}
	}
	for name, meet := range map[string]func(*world, *stubbornKernel){
		"at the first contact":             func(w *world, _ *stubbornKernel) { w.connect(0, 1) },
		"nothing of the first contact":     silence(func(int) bool { return true }),
		"the loser was not heard at first": silence(func(from int) bool { return from == 0 }),
		"the survivor's answer was lost": func(w *world, _ *stubbornKernel) {
			w.losing(func(from int, m wire.Message) bool {
				switch m.(type) {
				case *wire.Maxima, *wire.Request:
					return from == 0
				}
				return false
			})
			w.connect(0, 1)
			time.Sleep(100 * time.Millisecond)
			w.losing(nil)
		},
		"the survivor's kernel refused at first": func(w *world, k *stubbornKernel) {
			k.no.Store(true)
			w.connect(0, 1)
			time.Sleep(500 * time.Millisecond)
			k.no.Store(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				ops := tunnel(rand.New(rand.NewPCG(1, 2)), 1, false)
				w.nodes[0].kernel.foreign(ops...)
				for i, n := range w.nodes {
					n.boot(uint64(100 + i))
				}
				k := &stubbornKernel{simKernel: w.nodes[1].kernel}
				w.nodes[1].between(func() { w.nodes[1].engine.kernel = k })
				w.nodes[0].role(wire.RoleMaster, 1)
				w.nodes[1].role(wire.RoleBackup, 1)
				w.connect(0, 1)
				defer w.stop()
				time.Sleep(3 * time.Second)
				w.cut(0, 1)
				w.nodes[1].role(wire.RoleMaster, 2)
				time.Sleep(time.Second)
				w.nodes[0].kernel.traffic(sent)
				w.nodes[1].kernel.traffic(10)
				time.Sleep(2 * time.Second)
				w.nodes[0].role(wire.RoleBackup, 2)
				time.Sleep(time.Second)
				meet(w, k)
				time.Sleep(20 * time.Second)
				if got := w.nodes[1].kernel.oseq(ops[0].SA.Key); got <= sent {
					t.Errorf("the remote end has seen %d, the survivor stands at %d", sent, got)
				}
				if n := w.counts(1).SplitJumps; n != 1 {
					t.Errorf("%d jumps counted, want 1", n)
				}
				// Once it has been heard it is not said again.
				var again atomic.Int32
				w.losing(func(from int, m wire.Message) bool {
					if m, ok := m.(*wire.Maxima); ok && len(m.Entries) > 0 {
						again.Add(1)
					}
					return false
				})
				w.cut(0, 1)
				w.connect(0, 1)
				time.Sleep(time.Second)
				if n := again.Load(); n != 0 {
					t.Errorf("told %d times more", n)
				}
			})
		})
	}
}
