package peer

import (
	"strings"
	"testing"
	"time"

	"sasyncd/sync/wire"
)

func TestVersionMismatchIsToldOnBothSides(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a := w.start(1, []int{2})
		b := w.start(2, []int{1}, withHello(func(h *wire.Hello) { h.Min, h.Max = 3, 4 }))
		time.Sleep(time.Minute)
		if a.count(Up)+b.count(Up) != 0 {
			t.Fatal("they connected")
		}
		for _, n := range []*node{a, b} {
			why := n.trouble(map[string]string{"node1": "node2", "node2": "node1"}[n.name])
			if why.Code != wire.ByeVersion || !strings.Contains(why.Text, "1 to 1") || !strings.Contains(why.Text,
				"3 to 4") ||
				!strings.Contains(why.Text, "upgrade") {
				t.Errorf("%s says: %s", n.name, why)
			}
		}
		if n := w.net.Connections(); n > 1 {
			t.Errorf("%d connections are open", n)
		}
	})
}

// Administrators copy one file to all nodes, so a node finds itself among its
// peers.
func TestSelfIsRecognised(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a, b := w.start(1, []int{1, 2}), w.start(2, []int{1, 2})
		until(t, time.Second, "a session", both(a, b))
		time.Sleep(time.Hour)
		if a.count(Up) != 1 || b.count(Up) != 1 || a.session(a.name) != nil {
			t.Error("a node has a session with itself")
		}
		if log := w.log.String(); strings.Contains(log, "not connected") || strings.Contains(log, "level=WARN") {
			t.Error("it is logged as an error")
		}
		if n := a.Counters().Accepted.Load(); n > 10 {
			t.Errorf("it dialled itself %d times in an hour", n)
		}
	})
}

func TestDuplicateIDsAreRefused(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		clone := withHello(func(h *wire.Hello) { h.Node = nodeID(1) })
		a, b := w.start(1, []int{2}), w.start(2, []int{1}, clone)
		time.Sleep(time.Minute)
		if a.count(Up)+b.count(Up) != 0 {
			t.Error("two nodes with one id connected")
		}
		if why := a.trouble(b.name); why.Code != wire.ByeDuplicate || !strings.Contains(why.Text, "state directory") {
			t.Errorf("told as %s", why)
		}
	})
	// Two peers with one id: the first stays.
	bubble(t, 1, func(t *testing.T, w *world) {
		clone := withHello(func(h *wire.Hello) { h.Node = nodeID(2) })
		a := w.start(1, []int{2, 3})
		b := w.start(2, []int{1})
		until(t, time.Second, "a session", both(a, b))
		c := w.start(3, []int{1}, clone)
		time.Sleep(time.Minute)
		if a.count(Up) != 1 || c.count(Up) != 0 || a.count(Down) != 0 {
			t.Errorf("%d and %d sessions", a.count(Up), c.count(Up))
		}
		if why := c.trouble(a.name); why.Code != wire.ByeDuplicate || !strings.Contains(why.Text, "node2") {
			t.Errorf("told as %s", why)
		}
		b.stop()
		until(t, 20*time.Second, "the other, once the first is gone", both(a, c))
	})
}
