package meter

import (
	"testing"
	"time"
)

// at turns milliseconds into times as flows keep them.
func at(ms ...int) (list []int64) {
	for _, m := range ms {
		list = append(list, int64(m)*int64(time.Millisecond))
	}
	return list
}

func TestGapLeavesOutTheSendersPauses(t *testing.T) {
	every10 := func(from, to int) (ms []int) {
		for m := from; m <= to; m += 10 {
			ms = append(ms, m)
		}
		return ms
	}
	steady := at(every10(10, 1000)...)
	paused := at(append(every10(10, 300), every10(700, 1000)...)...) // 400 ms
	for name, tc := range map[string]struct {
		sent, arrivals []int64
		gap, idle      time.Duration
		at             int
	}{
		"nothing lost": {steady, at(every10(10, 1000)...), 10 * time.Millisecond, 0, 0},
		"the network's": {steady, at(append(every10(10, 300), every10(700, 1000)...)...),
			400 * time.Millisecond, 0, 300},
		"the sender's": {paused, paused, 20 * time.Millisecond, 380 * time.Millisecond, 300},
		"both": {paused, at(append(every10(10, 200), every10(800, 1000)...)...),
			220 * time.Millisecond, 380 * time.Millisecond, 200},
		"the larger is at work": {paused, at(append(every10(10, 300),
			append(every10(700, 800), every10(900, 1000)...)...)...), 100 * time.Millisecond, 0, 800},
	} {
		t.Run(name, func(t *testing.T) {
			began, gap, idle := longest(tc.arrivals, 0, at(1000)[0], tc.sent)
			if gap != tc.gap || idle != tc.idle || began != at(tc.at)[0] {
				t.Errorf("gap %v, idle %v, from %v; want %v, %v, %d ms", gap, idle, time.Duration(began), tc.gap,
					tc.idle, tc.at)
			}
		})
	}
}
