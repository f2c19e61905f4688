package carp

import (
	"slices"
	"time"
)

// maxDemotion is the largest sum of demotions, as in carp(4).
const maxDemotion = 255

// Demotion is one reason to be a lesser master, held until it is withdrawn, its
// holder's connection ends, or it expires.
type Demotion struct {
	ID      string        // chosen by the holder, unique in the group
	By      int           // 1..255
	Reason  string        // for people
	Client  uint64        // connection that holds it, 0 none
	Expires time.Duration // 0 never
}

// ledger keeps the demotions of a group.
type ledger []Demotion

func (l *ledger) set(d Demotion) {
	l.drop(func(x Demotion) bool { return x.ID == d.ID })
	*l = append(*l, d)
}

func (l *ledger) drop(match func(Demotion) bool) {
	*l = slices.DeleteFunc(*l, match)
}

func (l ledger) sum() int {
	n := 0
	for _, d := range l {
		n += d.By
	}
	return min(n, maxDemotion)
}

func (l ledger) deadline() time.Duration {
	at := Never
	for _, d := range l {
		if d.Expires != 0 {
			at = min(at, d.Expires)
		}
	}
	return at
}
