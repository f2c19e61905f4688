package wire

import (
	"math/rand/v2"
	"time"
)

// Way is a direction of traffic, seen from the machine at the port.
type Way int

// A machine's two directions.
const (
	Out Way = iota // what the machine sends
	In             // what the machine receives
)

// Fault is what happens to the frames of one port in one direction. The zero
// value is a good cable. Loss and Duplicate are probabilities from 0 to 1.
type Fault struct {
	Cut       bool          // nothing passes; the machine keeps its carrier
	Loss      float64       // frame is dropped
	Duplicate float64       // frame passes a second time, with a delay of its own
	Delay     time.Duration // every frame is that late
	Jitter    time.Duration // and by chance up to that much later, so frames overtake each other
}

// Count is what passed one port in one direction.
type Count struct {
	Frames, Bytes uint64 // passed, second copies included
	Cut           uint64 // dropped by Fault.Cut
	Lost          uint64 // dropped by Fault.Loss
	Duplicated    uint64 // second copies made
	Overtaken     uint64 // of Jitter: frames that passed behind one that came later
	Down          uint64 // dropped because nobody was plugged in
	Full          uint64 // dropped because the machine does not read
}

// lane is one direction of one port. Its chance depends on the seed and on how
// many frames took this lane, on nothing else.
type lane struct {
	fault Fault
	count Count
	rng   *rand.Rand
	came  uint64 // number of the last frame that came in
	last  uint64 // highest number that went out
}

func newLane(seed, number uint64) *lane { return &lane{rng: rand.New(rand.NewPCG(seed, number))} }

// delays says when, from now, copies of a frame pass: never, once or twice.
func (l *lane) delays() []time.Duration {
	// Always as many numbers of the generator for a frame, so that one kind of
	// fault does not change the other's choices.
	lost, twice := l.rng.Float64(), l.rng.Float64()
	first, second := l.rng.Float64(), l.rng.Float64()
	l.came++
	f := &l.fault
	switch {
	case f.Cut:
		l.count.Cut++
		return nil
	case lost < f.Loss:
		l.count.Lost++
		return nil
	}
	late := func(chance float64) time.Duration { return f.Delay + time.Duration(chance*float64(f.Jitter)) }
	if twice < f.Duplicate {
		l.count.Duplicated++
		return []time.Duration{late(first), late(second)}
	}
	return []time.Duration{late(first)}
}

// passed books a frame that went out; number is that of its coming in.
func (l *lane) passed(number uint64, bytes int) {
	l.count.Frames++
	l.count.Bytes += uint64(bytes)
	if number < l.last {
		l.count.Overtaken++
	}
	l.last = max(l.last, number)
}
