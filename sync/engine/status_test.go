package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
)

// What an operator reads of traffic: packets on both nodes, those that a standby
// does not know of, and how long its lead lasts.
func TestStatusTellsOfTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 4)
		defer w.stop()
		a, b := w.nodes[0], w.nodes[1]
		if s := b.status(); s.LeadPackets != 0 || s.LeadSeconds != 0 || s.Following != name0 {
			t.Errorf("without traffic: %+v", s)
		}
		for range 30 { // four SAs at 1,000 packets a second each
			a.kernel.traffic(100)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		m, s := a.status(), b.status()
		if m.PacketsOut != 12000 || m.PacketsIn != 0 || s.PacketsOut != 12000 {
			t.Errorf("%d packets out and %d in on the master, %d on the standby", m.PacketsOut, m.PacketsIn,
				s.PacketsOut)
		}
		if st := m.Standbys[0]; st.LagPackets != 0 || st.Counters == 0 || !st.InSync {
			t.Errorf("standby at rest: %+v", st)
		}
		// Of the two kinds of SA, that with 32-bit numbers has the smaller margin.
		if lead := sadb.DefaultMargin().Legacy; s.LeadPackets != lead || s.LeadSeconds < 0.9*float64(lead)/1000 ||
			s.LeadSeconds > 1.1*float64(lead)/1000 {
			t.Errorf("lead of %d packets for %.1f s", s.LeadPackets, s.LeadSeconds)
		}
		if g, err := b.engine.Glance(context.Background()); err != nil || g.Groups[0].LeadPackets != 0 ||
			g.Groups[0].SAs != s.SAs || g.Groups[0].PacketsOut != s.PacketsOut {
			t.Errorf("at a glance: %+v, %v", g, err)
		}
		// What is sent while nothing is acknowledged is at risk.
		w.cut(0, 1)
		w.connect(0, 1)
		time.Sleep(time.Second)
		w.silence(b, func() {
			for range 3 {
				a.kernel.traffic(500)
				time.Sleep(time.Second)
			}
			if st := a.status().Standbys[0]; st.LagPackets < 4000 || st.LagPackets > 6000 {
				t.Errorf("%d packets at risk, want about 6000", st.LagPackets)
			}
		})
	})
}

// silence keeps a node's engine busy while f runs, so that it answers nothing.
func (w *world) silence(n *simNode, f func()) {
	busy, done := make(chan struct{}), make(chan struct{})
	go func() {
		_ = n.engine.do(context.Background(), func() { close(busy); <-done })
	}()
	<-busy
	f()
	close(done)
	synctest.Wait()
}
