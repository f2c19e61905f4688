package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestStandbyNoticesForeignChanges of each kind in its tables, as far as they are about
// its group, and heals them long before its next audit.
func TestStandbyNoticesForeignChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 3)
		defer w.stop()
		ops := tunnel(r, 50, false)
		w.nodes[0].kernel.foreign(ops...)
		time.Sleep(3 * time.Second)
		b := w.nodes[1]
		b.between(func() { b.engine.cfg.Audit = time.Hour })
		time.Sleep(time.Second)
		stray := tunnel(r, 60, false)
		changed := *ops[2].Policy
		changed.Priority++
		others := *stray[0].SA
		others.Src, others.Key.Dst = others.Key.Dst, others.Key.Dst.Next() // of no address of the group
		for name, tt := range map[string]struct {
			op      sadb.Op
			concern bool
		}{
			"an SA is deleted":           {sadb.Op{Kind: sadb.OpDeleteSA, SA: ops[0].SA}, true},
			"a policy is deleted":        {sadb.Op{Kind: sadb.OpDeletePolicy, Policy: ops[2].Policy}, true},
			"a policy is changed":        {sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: &changed}, true},
			"an SA appears":              {stray[0], true},
			"a policy appears":           {stray[2], true},
			"an SA of others appears":    {sadb.Op{Kind: sadb.OpAddSA, SA: &others}, false},
			"an SA of others is deleted": {sadb.Op{Kind: sadb.OpDeleteSA, SA: &others}, false},
		} {
			read := b.kernel.readings()
			b.kernel.foreign(tt.op)
			time.Sleep(foreignDelay - 10*time.Millisecond)
			if b.kernel.readings() != read {
				t.Errorf("%s: the tables are read at once", name)
			}
			time.Sleep(4 * housekeeping)
			if n := b.kernel.readings() - read; (n > 0) != tt.concern {
				t.Errorf("%s: the tables are read %d times", name, n)
			}
			if tt.concern {
				w.equal(name)
			}
		}
	})
}

// TestSlowPeerIsCutOff: one that does not take what it is sent does not hold up the
// master, and has everything once it is back.
func TestSlowPeerIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 3)
		defer w.stop()
		time.Sleep(3 * time.Second)
		a := w.nodes[0]
		s := w.session(0, 1)
		s.stalled.Store(true)
		for i := range cap(s.queue) + 10 {
			p := *tunnel(r, 100, false)[2].Policy
			p.Priority = uint32(i + 1)
			a.kernel.foreign(sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: &p})
			synctest.Wait()
		}
		if c := w.counts(0); c.CutOffs != 1 || !s.isClosed() {
			t.Fatalf("cut off %d times, closed %v", c.CutOffs, s.isClosed())
		}
		time.Sleep(time.Second)
		if st := a.status(); len(st.Standbys) != 0 || w.ready(0).PeerReady {
			t.Errorf("standbys %+v, one is ready: %v", st.Standbys, w.ready(0).PeerReady)
		}
		w.connect(0, 1)
		time.Sleep(time.Second)
		w.equal("after it is back")
	})
}

// TestShow: what the kernel holds of all groups, each once, and nothing of others.
func TestShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 0)
		defer w.stop()
		ops := tunnel(r, 1, false)
		others := *ops[0].SA
		others.Src, others.Key.Dst = others.Key.Dst, others.Key.Dst.Next()
		elsewhere := *ops[2].Policy
		elsewhere.Key.IfID = 99
		elsewhere.Templates = append([]sadb.Template(nil), elsewhere.Templates...)
		for i := range elsewhere.Templates {
			elsewhere.Templates[i].Src, elsewhere.Templates[i].Dst = others.Src, others.Key.Dst
		}
		a := w.nodes[0]
		a.kernel.foreign(ops...)
		a.kernel.foreign(sadb.Op{Kind: sadb.OpAddSA, SA: &others}, sadb.Op{Kind: sadb.OpAddPolicy, Policy: &elsewhere})
		snap, err := a.engine.Show(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sas, policies := 0, 0
		for _, op := range ops {
			switch {
			case op.SA != nil:
				sas++
			case op.Policy != nil:
				policies++
			}
		}
		if len(snap.SAs) != sas || len(snap.Policies) != policies {
			t.Errorf("%d SAs and %d policies, want %d and %d", len(snap.SAs), len(snap.Policies), sas, policies)
		}
		for _, sa := range snap.SAs {
			if sa.Key == others.Key {
				t.Error("an SA of others is shown")
			}
		}
	})
}

// TestAlive: a watchdog learns whether the engine turns, and what is asked of one that has
// ended does not wait.
func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 1)
		e := w.nodes[0].engine
		if !e.Alive(t.Context(), time.Second) {
			t.Error("an engine at rest is not alive")
		}
		go func() { _ = e.do(t.Context(), func() { time.Sleep(5 * time.Second) }) }()
		synctest.Wait()
		if e.Alive(t.Context(), time.Second) {
			t.Error("an engine that is stuck is alive")
		}
		time.Sleep(10 * time.Second)
		if !e.Alive(t.Context(), time.Second) {
			t.Error("an engine that was stuck is not alive")
		}
		w.stop()
		if e.Alive(t.Context(), time.Second) {
			t.Error("an engine that has ended is alive")
		}
		if _, err := e.Status(context.Background()); !errors.Is(err, errEnded) {
			t.Errorf("its status: %v", err)
		}
	})
}

// TestOddQuestionsAreAnswered, with the reason why not; and a second one while the first
// is under way.
func TestOddQuestionsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 100)
		defer w.stop()
		var mu sync.Mutex
		var got []*wire.Inventory
		w.losing(func(from int, m wire.Message) bool {
			if m, ok := m.(*wire.Inventory); ok && from == 0 {
				mu.Lock()
				got = append(got, m)
				mu.Unlock()
			}
			return false
		})
		s := w.session(1, 0)
		ask := func(m *wire.Compare) []*wire.Inventory {
			s.Send(m)
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			list := got
			got = nil
			return list
		}
		for name, m := range map[string]*wire.Compare{
			"is not configured":    {Token: 7, Group: "elsewhere", Of: replica.SumBuckets},
			"are not what this":    {Token: 7, Group: simGroup, Of: replica.SumBuckets / 2},
			"earlier question is ": {Token: 7, Group: simGroup, Of: replica.SumBuckets},
		} {
			if strings.HasPrefix(name, "earlier") {
				s.Send(&wire.Compare{Token: 6, Group: simGroup, Of: replica.SumBuckets})
			}
			list := ask(m)
			found := 0
			for _, a := range list {
				if a.Token == 7 && a.Last && strings.Contains(a.Error, name) && len(a.Sums)+len(a.Records) == 0 {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%q: answers %+v", name, list)
			}
		}
		if list := ask(&wire.Compare{Token: 8, Group: simGroup, Of: replica.SumBuckets}); len(list) != 1 ||
			list[0].Token != 8 || list[0].Error != "" || len(list[0].Sums) != replica.SumBuckets || !list[0].Last {
			t.Errorf("sums: %+v", list)
		}
		all := make([]uint16, replica.SumBuckets)
		for i := range all {
			all[i] = uint16(i)
		}
		list := ask(&wire.Compare{Token: 9, Group: simGroup, Of: replica.SumBuckets, Buckets: all})
		records := 0
		for i, a := range list {
			if a.Token != 9 || a.Last != (i == len(list)-1) || a.Error != "" || len(a.Records) > inventoryBatch {
				t.Errorf("answer %d: token %d, last %v, %d records, %s", i, a.Token, a.Last, len(a.Records), a.Error)
			}
			records += len(a.Records)
		}
		if st := w.nodes[0].status(); records != st.SAs+st.Policies {
			t.Errorf("%d records of %d SAs and %d policies", records, st.SAs, st.Policies)
		}
		if s.isClosed() {
			t.Error("who asks is cut off")
		}
	})
}
