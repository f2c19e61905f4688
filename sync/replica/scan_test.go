package replica

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// history is a kernel's table that changes at random, newest first.
type history struct {
	r    *rand.Rand
	list []*sadb.SA
}

// turn changes some of everything: new SAs, SAs that go, that are replaced under
// their identity, whose limits change, and counters that move.
func (h *history) turn() {
	for range h.r.IntN(6) {
		sa := sadbtest.SA(h.r)
		sa.Dir = sadb.DirOut
		h.list = slices.Insert(h.list, 0, sa)
	}
	for range h.r.IntN(4) {
		if n := len(h.list); n > 0 {
			i := h.r.IntN(n)
			switch h.r.IntN(4) {
			case 0, 1:
				h.list = slices.Delete(h.list, i, i+1)
			case 2:
				c := *h.list[i]
				c.Limits.HardAdd++
				h.list[i] = &c
			default: // deleted and added again, with another configuration
				c := *h.list[i]
				c.Reqid++
				h.list = slices.Insert(slices.Delete(h.list, i, i+1), 0, &c)
			}
		}
	}
	for i := range h.list {
		if h.r.IntN(3) == 0 {
			c := *h.list[i]
			c.OSeq, c.Packets, c.Used = c.OSeq+h.r.Uint64N(9), c.Packets+1, true
			h.list[i] = &c
		}
	}
}

// snapshot is what a dump tells, readings what a scan does.
func (h *history) snapshot() *sadb.Snapshot {
	s := &sadb.Snapshot{}
	for _, sa := range h.list {
		c := *sa
		c.Bitmap = slices.Clone(c.Bitmap)
		s.SAs = append(s.SAs, &c)
	}
	return s
}

func reading(sa *sadb.SA) *sadb.Reading {
	return &sadb.Reading{Key: sa.Key, Config: wire.SADigest(sa).Fold(), Counters: sa.Counters, Age: sa.Age,
		UseAge: sa.UseAge, Used: sa.Used}
}

// TestGlancesTellAPublisherWhatDumpsTell: whatever happens to the tables, and
// wherever a reading is given up, a publisher that glances publishes what one
// that decodes everything does.
func TestGlancesTellAPublisherWhatDumpsTell(t *testing.T) {
	for seed := range uint64(200) {
		h := &history{r: rand.New(rand.NewPCG(seed, 1))}
		now := time.Unix(1e9, 0)
		whole, glancing := NewPublisher(wire.StreamID{}, now), NewPublisher(wire.StreamID{}, now)
		glances, sentWhole, sentGlancing := 0, uint64(0), uint64(0)
		read := func(list []*sadb.SA, touched *Touched) {
			glancing.BeginScan(now)
			for _, sa := range list {
				if r := reading(sa); glancing.Read(now, r, touched) {
					glances++
				} else {
					glancing.ReadWhole(now, sa, r.Config, touched)
				}
			}
		}
		for round := range 30 {
			now = now.Add(time.Second)
			h.turn()
			if h.r.IntN(4) == 0 { // given up half way
				list := h.snapshot().SAs
				read(list[:h.r.IntN(len(list)+1)], NewTouched())
			}
			wantRecs, wantGone := whole.Reconcile(now, h.snapshot(), NewTouched())
			read(h.snapshot().SAs, NewTouched())
			recs, gone := glancing.end(now, nil, NewTouched())
			if a, b := recordNames(wantRecs), recordNames(recs); !slices.Equal(a, b) {
				t.Fatalf("seed %d, round %d: published\n%v, want\n%v", seed, round, b, a)
			}
			if a, b := keySet(wantGone.SAs), keySet(gone.SAs); !maps.Equal(a, b) {
				t.Fatalf("seed %d, round %d: gone %v, want %v", seed, round, b, a)
			}
			for _, k := range gone.SAs {
				whole.DeleteSA(now, k)
				glancing.DeleteSA(now, k)
			}
			if h.r.IntN(3) > 0 { // sometimes a peer is slow
				a := slices.Clone(whole.countersSince(sentWhole))
				if b := glancing.countersSince(sentGlancing); !slices.Equal(a, b) {
					t.Fatalf("seed %d, round %d: counters\n%v, want\n%v", seed, round, b, a)
				}
				sentWhole, sentGlancing = whole.epoch, glancing.epoch
			}
			if whole.sums != glancing.sums || len(whole.cover) != len(glancing.cover) {
				t.Fatalf("seed %d, round %d: sums or covers differ", seed, round)
			}
		}
		if glances == 0 {
			t.Fatalf("seed %d: nothing was recognised", seed)
		}
	}
}

func recordNames(list []wire.Record) (names []string) {
	for _, r := range list {
		names = append(names, fmt.Sprintf("%d %s %d %x", r.Kind, r.SA.Key, r.Handle, wire.SADigest(r.SA)))
	}
	return names
}

func keySet(list []sadb.SAKey) map[sadb.SAKey]bool {
	m := make(map[sadb.SAKey]bool)
	for _, k := range list {
		m[k] = true
	}
	return m
}

// TestGlancesTellAReceiverWhatDumpsTell is the same for a standby.
func TestGlancesTellAReceiverWhatDumpsTell(t *testing.T) {
	for seed := range uint64(200) {
		h := &history{r: rand.New(rand.NewPCG(seed, 2))}
		whole, glancing := NewReceiver(Options{Margin: sadb.DefaultMargin(), Sweeps: true}),
			NewReceiver(Options{Margin: sadb.DefaultMargin(), Sweeps: true})
		read := func(list []*sadb.SA, touched *Touched) {
			glancing.BeginScan()
			for _, sa := range list {
				if r := reading(sa); !glancing.Read(r, touched) {
					glancing.ReadWhole(sa, r.Config, touched)
				}
			}
		}
		for round := range 30 {
			h.turn()
			touched := NewTouched()
			if n := len(h.list); n > 0 {
				touched.sas[h.list[h.r.IntN(n)].Key] = true
			}
			if h.r.IntN(4) == 0 {
				list := h.snapshot().SAs
				read(list[:h.r.IntN(len(list)+1)], touched)
			}
			whole.Observe(h.snapshot(), touched)
			read(h.snapshot().SAs, touched)
			glancing.EndScan(nil, touched)
			if len(whole.have) != len(glancing.have) {
				t.Fatalf("seed %d, round %d: %d SAs, want %d", seed, round, len(glancing.have), len(whole.have))
			}
			for k, want := range whole.have {
				got, ok := glancing.holds(k)
				got.config, got.seen = want.config, want.seen
				if !ok || got != *want {
					t.Fatalf("seed %d, round %d: %s: have %+v, want %+v", seed, round, k, got, *want)
				}
			}
		}
	}
}
