package peer

import (
	"net/netip"
	"sync"
	"testing"
	"time"
)

// TestFound: who holds the key and is no peer is told of, and let in once it is one. Who
// has another key is not.
func TestFound(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		var mu sync.Mutex
		var found []netip.Addr
		a := w.start(1, nil, func(c *Config) {
			c.Found = func(a netip.Addr) { mu.Lock(); found = append(found, a); mu.Unlock() }
		})
		b := w.start(2, []int{1})
		w.keys = derive(t, hexB)
		stranger := w.start(3, []int{1})
		until(t, 5*time.Second, "the member to be found",
			func() bool { mu.Lock(); defer mu.Unlock(); return len(found) > 0 })
		if b.count(Up)+a.count(Up) != 0 {
			t.Error("it got in without being a peer")
		}
		if err := a.SetPeers([]Peer{{"node2", addrs(1, 2)}}); err != nil {
			t.Fatal(err)
		}
		until(t, 15*time.Second, "a session", both(a, b))
		time.Sleep(30 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		for _, f := range found {
			if f != at(0, 2) {
				t.Errorf("found %v", f)
			}
		}
		if stranger.count(Up) != 0 || a.Counters().Accepted.Load() == 0 {
			t.Error("who has another key got in, or did not try")
		}
	})
}
