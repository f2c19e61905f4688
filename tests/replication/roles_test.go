package replication

import (
	"context"
	"sync"
	"testing"
	"time"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// TestRestartUnderElection kills sasyncd, of the master and of the backup, with
// a real carpd beside it. Neither kernel loses or gains an SA or a policy,
// nothing is repaired, and the master stays master.
func TestRestartUnderElection(t *testing.T) {
	p := scenario.NewPair(t)
	p.Start()
	// The backup's bypasses move policies, once.
	lab.Eventually(t, 10*time.Second, "the backup's own addresses to be reachable", func() bool {
		tables, err := scenario.ReadTables(p.Members[1].Node)
		return err == nil && len(tables.Bypasses) == 4
	})
	var changes [2]func() []sadb.Event
	for i, m := range p.Members {
		changes[i] = watch(t, m.Node)
	}
	for i, role := range []string{"MASTER", "BACKUP"} {
		m := p.Members[i]
		m.Sasyncd.Kill()
		m.StartSasyncd()
		lab.Eventually(t, 10*time.Second, "sasyncd of "+m.Name+" to answer", func() bool {
			s, err := m.Status()
			return err == nil && s.Counts.Dumps > 0
		})
		m.WaitRole(role)
		p.WaitFit(p.Members[0])
	}
	for i, m := range p.Members {
		for _, ev := range changes[i]() {
			switch {
			case ev.SA != nil:
				t.Errorf("%s: event %d of SA %s", m.Name, ev.Kind, ev.SA.Key)
			case ev.Policy != nil && !xfrm.IsBypass(ev.Policy):
				t.Errorf("%s: event %d of %s", m.Name, ev.Kind, ev.Policy.Key)
			}
		}
		s, err := m.Status()
		if err != nil {
			t.Fatal(err)
		}
		if s.Counts.Repairs != 0 {
			t.Errorf("%s repaired %d items", m.Name, s.Counts.Repairs)
		}
	}
}

// watch collects the changes of a node's tables from now on.
func watch(t *testing.T, nd *lab.Node) func() []sadb.Event {
	t.Helper()
	var k *xfrm.Kernel
	if err := nd.Do(func() (err error) { k, err = xfrm.New(xfrm.Options{}); return err }); err != nil {
		t.Fatalf("open kernel of %s: %v", nd.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	events, err := k.Watch(ctx)
	if err != nil {
		t.Fatalf("watch kernel of %s: %v", nd.Name, err)
	}
	var mu sync.Mutex
	var list []sadb.Event
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ev := range events {
			mu.Lock()
			list = append(list, ev)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return func() []sadb.Event {
		mu.Lock()
		defer mu.Unlock()
		return list
	}
}
