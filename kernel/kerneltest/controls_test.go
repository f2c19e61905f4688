package kerneltest

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
)

func apply(t *testing.T, k *Kernel, ops ...sadb.Op) {
	t.Helper()
	for i, err := range k.Apply(t.Context(), ops) {
		if err != nil {
			t.Fatalf("op %d: %v", i, err)
		}
	}
}

func TestTextIsSortedAndKeepsKeys(t *testing.T) {
	k := New(time.Now)
	esn := SampleESN(addrB6, addrA6, 0x2002)
	esn.Key.Mark, esn.OSeq, esn.IfID = sadb.Mark{Value: 1, Mask: 0xff}, 5<<32|7, 3
	block := samplePolicy()
	block.Action, block.Templates, block.Key.Dir = sadb.ActionBlock, nil, sadb.DirFwd
	apply(t, k, addSA(esn), addSA(SampleSA(addrA, addrB, 0x1001)), addPol(samplePolicy()), addPol(block))
	want := `src 192.0.2.1 dst 198.51.100.1
	proto 50 spi 0x00001001 reqid 1 mode tunnel
	replay-window 32
	aead rfc4106(gcm(aes)) 160 bits digest 6bc14bdc icv 128
	anti-replay seq 0x0 oseq 0x0 bitmap [00000000]
	sel src 0.0.0.0/0 dst 0.0.0.0/0
src 2001:db8:1::1 dst 2001:db8::1
	proto 50 spi 0x00002002 reqid 1 mode tunnel
	replay-window 128 flag esn
	mark 0x1/0xff
	if_id 0x3
	aead rfc4106(gcm(aes)) 160 bits digest 6bc14bdc icv 128
	anti-replay seq 0x0 oseq 0x500000007 bitmap [00000000 00000000 00000000 00000000]
	sel src ::/0 dst ::/0
src 10.1.0.0/16 dst 10.2.0.0/16
	dir fwd action block priority 1000 ptype main
src 10.1.0.0/16 dst 10.2.0.0/16
	dir out action allow priority 1000 ptype main
	tmpl src 192.0.2.1 dst 198.51.100.1 family 2 proto 50 spi 0x00000000 reqid 1 mode tunnel level required share 0 algs ffffffff ffffffff ffffffff
`
	if got := k.Text(); got != want {
		t.Errorf("text:\n%s\nwant:\n%s", got, want)
	}
	if strings.Contains(k.Text(), sampleKey[:20]) {
		t.Error("a key is printed")
	}
	snap, err := k.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if SnapshotText(snap) != want {
		t.Errorf("snapshot:\n%s", SnapshotText(snap))
	}
}

func TestOverrunAndLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(time.Now)
		all, err := k.Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		few, err := k.WatchLimited(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint32(10) {
			apply(t, k, addSA(SampleSA(addrA, addrB, i+1<<8)))
			synctest.Wait()
		}
		for range 10 {
			if ev := <-all; ev.Kind != sadb.EventPutSA {
				t.Fatalf("event kind %d", ev.Kind)
			}
		}
		// One event was already on its way when the others were lost.
		kinds := []sadb.EventKind{(<-few).Kind, (<-few).Kind}
		if kinds[0] != sadb.EventPutSA || kinds[1] != sadb.EventResync {
			t.Errorf("events %v, want one and then a loss", kinds)
		}
		apply(t, k, delSA(SampleSA(addrA, addrB, 1<<8)))
		if ev := <-few; ev.Kind != sadb.EventDeleteSA {
			t.Errorf("event kind %d after the loss", ev.Kind)
		}
		<-all
		k.Overrun()
		if ev := <-all; ev.Kind != sadb.EventResync {
			t.Errorf("event kind %d after an overrun", ev.Kind)
		}
		if (<-few).Kind != sadb.EventResync || k.Resyncs() != 3 {
			t.Errorf("%d losses counted, want 3", k.Resyncs())
		}
	})
}

func TestFaults(t *testing.T) {
	k := New(time.Now)
	sick := errors.New("sick")
	k.SetFault(func(op sadb.Op) error {
		if op.Kind == sadb.OpAddSA && op.SA.Key.SPI == 2 {
			return sick
		}
		return nil
	})
	errs := k.Apply(t.Context(), []sadb.Op{addSA(SampleSA(addrA, addrB, 1)), addSA(SampleSA(addrA, addrB, 2)),
		addSA(SampleSA(addrA, addrB, 3))})
	if errs[0] != nil || !errors.Is(errs[1], sick) || errs[2] != nil {
		t.Errorf("errors %v", errs)
	}
	if n := k.Applied(sadb.OpAddSA); n != 3 {
		t.Errorf("%d additions counted, want 3", n)
	}
}

// TestClockStep: limits are judged by the wall clock, as in the kernel, which
// is why ages and not dates are replicated.
func TestClockStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var step atomic.Int64
		k := New(func() time.Time { return time.Now().Add(time.Duration(step.Load())) })
		events, err := k.Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sa := SampleSA(addrA, addrB, 1)
		sa.Limits.HardAdd = 3600
		apply(t, k, addSA(sa))
		<-events
		step.Store(int64(24 * time.Hour))
		start := time.Now()
		if ev := <-events; ev.Kind != sadb.EventExpireSA || !ev.Hard {
			t.Errorf("event %+v", ev)
		}
		if late := time.Since(start); late > 2*time.Second {
			t.Errorf("expired after %v, want at the next look", late)
		}
	})
}

// TestWindows compares both layouts of the replay window with a plain list of
// what was seen, over random traffic with jumps, reordering and repetition.
func TestWindows(t *testing.T) {
	ring := SampleSA(addrA, addrB, 3)
	ring.Window, ring.BitmapLen, ring.Bitmap = 100, 4, make([]uint32, 4)
	for _, sa := range []*sadb.SA{SampleSA(addrA, addrB, 1), SampleESN(addrA, addrB, 2), ring} {
		k := New(time.Now)
		apply(t, k, addSA(sa))
		rnd := rand.New(rand.NewPCG(1, uint64(sa.Key.SPI)))
		seen, top := map[uint64]bool{}, uint64(0)
		for range 20000 {
			var seq uint64
			switch rnd.IntN(10) {
			case 0:
				seq = top + 1 + rnd.Uint64N(300)
			case 1, 2, 3:
				seq = top - min(top, rnd.Uint64N(2*uint64(sa.Window)))
			default:
				seq = top + 1 + rnd.Uint64N(3)
			}
			want := seq > top || seq > 0 && top-seq < uint64(sa.Window) && !seen[seq]
			if got := k.Receive(sa.Key, seq, 100); got != want {
				t.Fatalf("window %d: %d with top %d accepted %v, want %v", sa.Window, seq, top, got, want)
			}
			if want {
				seen[seq] = true
				top = max(top, seq)
			}
		}
	}
}

func TestSending(t *testing.T) {
	k := New(time.Now)
	sa := SampleSA(addrA, addrB, 1)
	sa.OSeq = 1<<32 - 3
	apply(t, k, addSA(sa))
	for _, want := range []uint64{1<<32 - 2, 1<<32 - 1} {
		if seq, ok := k.Send(sa.Key, 100); !ok || seq != want {
			t.Errorf("sent %#x %v, want %#x", seq, ok, want)
		}
	}
	if seq, ok := k.Send(sa.Key, 100); ok {
		t.Errorf("sent %#x after the last number", seq)
	}
	snap, err := k.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := snap.SAs[0]; got.Packets != 2 || got.Bytes != 200 || !got.Used {
		t.Errorf("used %v, %d packets, %d bytes; want 2 and 200", got.Used, got.Packets, got.Bytes)
	}
	if _, ok := k.Send(SampleSA(addrA, addrB, 9).Key, 1); ok {
		t.Error("sent on an sa that is not there")
	}

	// The receiver infers high words, and a number far ahead is beyond it.
	in := SampleESN(addrB, addrA, 2)
	in.Seq = 1<<32 - 5
	in.Bitmap = nil
	apply(t, k, addSA(in))
	for _, c := range []struct {
		seq uint64
		ok  bool
	}{{1<<32 + 3, true}, {1<<32 + 3, false}, {1<<32 - 1, true}, {1<<32 - 6, false}, {3<<32 + 3, false}} {
		if ok := k.Receive(in.Key, c.seq, 1); ok != c.ok {
			t.Errorf("%#x accepted %v, want %v", c.seq, ok, c.ok)
		}
	}
}
