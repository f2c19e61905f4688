package replica

import (
	"time"
)

// TurnItems bounds how many items a computation goes over in one turn: at most
// about a millisecond.
const TurnItems = 250

// lookItems is after how many items a computation looks at the clock, and TurnLimit when
// a turn ends although it has more: what items allocate may cost the collector's work.
const (
	lookItems = 16
	TurnLimit = time.Millisecond
)

// Pace divides a computation over many items into turns. The zero value does not.
type Pace struct {
	n, sorted int
	Pause     func()
	Late      func() bool // the turn has taken TurnLimit
}

// Item counts one item.
func (p *Pace) Item() { p.ItemAfter(nil) }

// ItemAfter is item where something must be done before the turn ends.
func (p *Pace) ItemAfter(done func()) {
	p.n++
	if p.Pause == nil || p.n < TurnItems && (p.n%lookItems != 0 || p.Late == nil || !p.Late()) {
		return
	}
	if done != nil {
		done()
	}
	p.n = 0
	p.Pause()
}

// comparisons are how many comparisons of a sort take as long as one item.
const comparisons = 16

// compared counts a comparison.
func (p *Pace) compared() {
	if p.sorted++; p.sorted >= comparisons {
		p.sorted = 0
		p.Item()
	}
}
