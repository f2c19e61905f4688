package wire

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// bench is a core with a clock of its own.
type bench struct {
	*Core
	now time.Time
}

// newBench has ports 0, 1 and 2 in a LAN, and port 3 in another, all plugged in.
func newBench(seed uint64) *bench {
	b := &bench{Core: NewCore(seed), now: time.Unix(1000, 0)}
	for _, lan := range []string{"a", "a", "a", "b"} {
		b.Plug(b.AddPort(lan), true)
	}
	return b
}

const everybody = 0xff

// frame is one from the address of a port to that of another, with a number.
func frame(from, to byte, n uint32) []byte {
	f := make([]byte, 60)
	copy(f, []byte{2, 0, 0, 0, 0, to})
	if to == everybody {
		copy(f, []byte{255, 255, 255, 255, 255, 255})
	}
	copy(f[6:], []byte{2, 0, 0, 0, 0, from})
	binary.BigEndian.PutUint32(f[14:], n)
	return f
}

func number(f []byte) uint32 { return binary.BigEndian.Uint32(f[14:]) }

// send sends a frame from its port and returns who gets it at once.
func (b *bench) send(from, to byte, n uint32) []PortID {
	b.Receive(b.now, PortID(from), frame(from, to, n))
	var list []PortID
	for _, d := range b.Due(b.now) {
		list = append(list, d.Port)
	}
	return list
}

// arrival is a frame at a machine, with the time since the test's start.
type arrival struct {
	at   time.Duration
	port PortID
	n    uint32
}

// drain lets time pass until nothing is under way.
func (b *bench) drain() []arrival {
	start := b.now
	var list []arrival
	for {
		at, ok := b.Deadline()
		if !ok {
			return list
		}
		if at.After(b.now) {
			b.now = at
		}
		for _, d := range b.Due(b.now) {
			list = append(list, arrival{b.now.Sub(start), d.Port, number(d.Frame)})
		}
	}
}

// settle makes all addresses known.
func (b *bench) settle() {
	for p := range byte(4) {
		b.send(p, everybody, 0)
	}
}

func TestLearnsAndFloods(t *testing.T) {
	b := newBench(1)
	for _, tc := range []struct {
		what     string
		from, to byte
		want     []PortID
	}{
		{"unknown address", 0, 1, []PortID{1, 2}},
		{"learned from the first", 1, 0, []PortID{0}},
		{"broadcast stays in its LAN", 2, everybody, []PortID{0, 1}},
		{"learned from a broadcast", 0, 2, []PortID{2}},
		{"alone in its LAN", 3, 0, nil},
		{"to itself", 0, 0, nil},
	} {
		if got := b.send(tc.from, tc.to, 0); !slices.Equal(got, tc.want) {
			t.Errorf("%s: delivered to %v, want %v", tc.what, got, tc.want)
		}
	}
	// An address that moves is followed: port 2 now sends as port 1.
	b.Receive(b.now, 2, frame(1, everybody, 0))
	b.Due(b.now)
	if got := b.send(0, 1, 0); !slices.Equal(got, []PortID{2}) {
		t.Errorf("to an address that moved: delivered to %v", got)
	}
	b.Receive(b.now, 0, make([]byte, minFrame-1))
	if got := b.drain(); got != nil {
		t.Errorf("a torso was delivered: %v", got)
	}
}

func TestPowerCut(t *testing.T) {
	b := newBench(1)
	b.settle()
	b.Set(1, In, Fault{Delay: time.Second})
	b.Set(1, Out, Fault{Delay: time.Second})
	b.send(0, 1, 7)
	b.send(1, 0, 8)
	b.Plug(1, false)
	if got, want := b.drain(), []arrival{{time.Second, 0, 8}}; !slices.Equal(got, want) {
		t.Errorf("after the power cut arrived %v, want %v: only what had left", got, want)
	}
	if got := b.send(0, 1, 9); !slices.Equal(got, []PortID{2}) {
		t.Errorf("to an address of who is gone: delivered to %v, want a flood", got)
	}
	b.drain()
	if n := b.Count(1, In).Down; n != 2 {
		t.Errorf("%d frames were counted as sent to nobody, want 2", n)
	}
}

func TestCutIsOneWay(t *testing.T) {
	b := newBench(1)
	b.settle()
	b.Set(1, In, Fault{Cut: true})
	if got := b.send(0, 1, 1); got != nil {
		t.Errorf("through a cut: delivered to %v", got)
	}
	if got := b.send(1, 0, 2); !slices.Equal(got, []PortID{0}) {
		t.Errorf("the other way: delivered to %v", got)
	}
	b.Set(1, In, Fault{})
	b.Set(1, Out, Fault{Cut: true})
	if got := b.send(1, 0, 3); got != nil {
		t.Errorf("through a cut: delivered to %v", got)
	}
	if got := b.send(0, 1, 4); !slices.Equal(got, []PortID{1}) {
		t.Errorf("the other way: delivered to %v", got)
	}
	if in, out := b.Count(1, In).Cut, b.Count(1, Out).Cut; in != 1 || out != 1 {
		t.Errorf("counted %d and %d cut frames, want one each way", in, out)
	}
}

func TestDelayKeepsOrder(t *testing.T) {
	b := newBench(1)
	b.settle()
	b.Set(0, Out, Fault{Delay: 20 * time.Millisecond})
	b.Set(1, In, Fault{Delay: 30 * time.Millisecond})
	var want []arrival
	for n := range uint32(10) {
		b.send(0, 1, n)
		want = append(want, arrival{50 * time.Millisecond, 1, n})
	}
	if got := b.drain(); !slices.Equal(got, want) {
		t.Errorf("arrived %v, want %v", got, want)
	}
	if c := b.Count(1, In); c.Overtaken != 0 || c.Frames != 10+2 || c.Bytes != 12*60 {
		t.Errorf("counted %+v, want 12 frames, those of the start included, and none overtaken", c)
	}
}

// play sends 1,000 frames, one each millisecond, through a lane with all faults
// of chance.
func play(seed uint64, f Fault) ([]arrival, Count) {
	b := newBench(seed)
	b.settle()
	b.Set(1, In, f)
	start := b.now
	var list []arrival
	for n := range uint32(1000) {
		b.now = start.Add(time.Duration(n) * time.Millisecond)
		b.Receive(b.now, 0, frame(0, 1, n))
		for _, d := range b.Due(b.now) {
			list = append(list, arrival{b.now.Sub(start), d.Port, number(d.Frame)})
		}
	}
	sent := b.now.Sub(start)
	for _, a := range b.drain() {
		a.at += sent
		list = append(list, a)
	}
	return list, b.Count(1, In)
}

func TestChance(t *testing.T) {
	f := Fault{Loss: 0.05, Duplicate: 0.1, Delay: 50 * time.Millisecond, Jitter: 20 * time.Millisecond}
	got, c := play(1, f)
	again, _ := play(1, f)
	if !slices.Equal(got, again) {
		t.Error("the same seed made another history")
	}
	if other, _ := play(2, f); slices.Equal(got, other) {
		t.Error("another seed made the same history")
	}
	// Six standard deviations around what is expected.
	for _, tc := range []struct {
		what     string
		n        uint64
		from, to uint64
	}{
		{"lost", c.Lost, 9, 91},
		{"duplicated", c.Duplicated, 39, 151},
		{"overtaken", c.Overtaken, 300, 1100},
	} {
		if tc.n < tc.from || tc.n > tc.to {
			t.Errorf("%d frames of 1000 were %s, want %d to %d", tc.n, tc.what, tc.from, tc.to)
		}
	}
	if want := 1000 - c.Lost + c.Duplicated; uint64(len(got)) != want {
		t.Errorf("%d frames arrived, want %d by the counters", len(got), want)
	}
	for _, a := range got {
		sent := time.Duration(a.n) * time.Millisecond
		if late := a.at - sent; late < f.Delay || late > f.Delay+f.Jitter+time.Millisecond {
			t.Errorf("frame %d was late by %v", a.n, late)
		}
	}
	// One kind of fault does not change what the others choose.
	_, less := play(1, Fault{Loss: 0.05})
	if less.Lost != c.Lost {
		t.Errorf("%d frames were lost without the other faults, %d with them", less.Lost, c.Lost)
	}
}
