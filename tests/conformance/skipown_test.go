package conformance

import (
	"testing"
	"time"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

// TestSkipOwn: with that option a watcher hears of others' changes only.
func TestSkipOwn(t *testing.T) {
	enterNS(t)
	k, err := xfrm.New(xfrm.Options{SkipOwn: true})
	must(t, err)
	defer k.Close()
	events, err := k.Watch(t.Context())
	must(t, err)
	other := openKernel(t)
	list := benchSAs(3)
	mustApply(t, k, sadb.Op{Kind: sadb.OpAddSA, SA: list[0]}, sadb.Op{Kind: sadb.OpDeleteSA, SA: list[0]})
	mustApply(t, other, sadb.Op{Kind: sadb.OpAddSA, SA: list[1]})
	mustApply(t, k, sadb.Op{Kind: sadb.OpAddSA, SA: list[2]})
	mustApply(t, other, sadb.Op{Kind: sadb.OpDeleteSA, SA: list[2]})
	for i, want := range []struct {
		kind sadb.EventKind
		key  sadb.SAKey
	}{{sadb.EventPutSA, list[1].Key}, {sadb.EventDeleteSA, list[2].Key}} {
		select {
		case ev := <-events:
			if ev.Kind != want.kind || ev.SA.Key != want.key || ev.Own {
				t.Errorf("event %d: kind %d of %s, own %v; want kind %d of %s", i, ev.Kind, ev.SA.Key, ev.Own,
					want.kind, want.key)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("event %d does not come", i)
		}
	}
}
