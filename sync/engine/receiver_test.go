package engine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// TestFlushModes flushes a healthy master's tables.
func TestFlushModes(t *testing.T) {
	for _, forward := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			w.forward = forward
			defer w.stop()
			w.nodes[0].kernel.foreign(tunnel(rand.New(rand.NewPCG(1, 2)), 1, false)...)
			for i, n := range w.nodes {
				n.boot(uint64(i))
			}
			w.nodes[0].role(wire.RoleMaster, 1)
			w.nodes[1].role(wire.RoleBackup, 1)
			w.connect(0, 1)
			time.Sleep(time.Second)
			before := w.nodes[1].kernel.text()
			w.nodes[0].kernel.flush()
			time.Sleep(1500 * time.Millisecond)
			if w.nodes[1].kernel.text() != before {
				t.Error("the flush reached the standby within the hold time")
			}
			time.Sleep(5 * time.Second)
			// Policies are back at once, so the flush of none is forwarded.
			if got := w.nodes[1].kernel.text(); forward != (w.nodes[1].kernel.size() == 0) || !forward &&
				got != before {
				t.Errorf("forwarding flushes: %v, standby holds %q", forward, got)
			}
			if have := len(w.nodes[1].kernel.policies); have != 3 {
				t.Errorf("forwarding flushes: %v, standby holds %d policies of 3", forward, have)
			}
		})
	}
}
