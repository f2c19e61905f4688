package engine

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// receives lets n packets come in on every inbound SA.
func (k *simKernel) receives(n uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, sa := range k.sas {
		if slices.Contains(simVIPs, key.Dst) {
			c := *sa
			c.Seq, c.Packets = c.Seq+n, c.Packets+n
			k.sas[key] = &c
		}
	}
}

// TestTrafficDecides: of two masters that both let the traffic decide the one that gets it
// stays, under a term above the other's; without a difference the higher term does.
func TestTrafficDecides(t *testing.T) {
	for name, tt := range map[string]struct {
		own, other []uint64 // packets of each second, of the lower and the higher term
		stays      bool     // the lower one
	}{
		"nobody gets any":           {nil, nil, false},
		"as much":                   {[]uint64{10, 10}, []uint64{10, 10}, false},
		"the lower one gets it":     {[]uint64{10, 10, 10}, nil, true},
		"the higher one gets it":    {nil, []uint64{10, 10, 10}, false},
		"the lower one gets more":   {[]uint64{10, 10, 10}, []uint64{25, 0, 0}, true},
		"the lower one gets less":   {[]uint64{0, 0, 25}, []uint64{10, 10, 10}, false},
		"the lower one got it once": {[]uint64{1, 0, 0}, nil, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, _ := pair(t, 2)
			defer w.stop()
			master := func(i int, term uint64) {
				w.nodes[i].elector.events <- ElectorEvent{Kind: ElectorState, Group: simGroup, Role: wire.RoleMaster,
					Term: term, VIPs: simVIPs, PreferTraffic: true}
				synctest.Wait()
			}
			w.cut(0, 1)
			master(0, 1)
			master(1, 5)
			w.nodes[0].kernel.receives(100) // before they meet, which is none of this
			time.Sleep(2 * time.Second)
			w.connect(0, 1)
			for i := range 3 {
				if i < len(tt.own) {
					w.nodes[0].kernel.receives(tt.own[i])
				}
				if i < len(tt.other) {
					w.nodes[1].kernel.receives(tt.other[i])
				}
				time.Sleep(900 * time.Millisecond)
				if n := w.nodes[0].elector.resignations() + w.nodes[1].elector.resignations(); n != 0 {
					t.Errorf("%s: decided after %d s", name, i+1)
				}
			}
			time.Sleep(2 * time.Second)
			a, b := w.nodes[0].elector.resignations(), w.nodes[1].elector.resignations()
			if (a == 0) != tt.stays || (b == 0) == tt.stays {
				t.Errorf("%s: the lower one is told to resign %d times, the higher one %d times", name, a, b)
			}
			if got := w.nodes[0].status().Term; tt.stays && got != 6 || !tt.stays && got != 1 {
				t.Errorf("%s: the lower one goes on under term %d", name, got)
			}
		})
	}
}

// TestTrafficIsTold to the election while it is there, and not long after.
func TestTrafficIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 2)
		defer w.stop()
		time.Sleep(2 * time.Second)
		if w.ready(0).Traffic {
			t.Error("traffic before there is any")
		}
		w.nodes[0].kernel.receives(1)
		time.Sleep(2 * time.Second)
		if !w.ready(0).Traffic {
			t.Error("traffic is not told")
		}
		time.Sleep(trafficTime)
		if w.ready(0).Traffic {
			t.Error("traffic is told long after it has ended")
		}
	})
}
