package tracker

import "testing"

// FuzzLine: what keepalived writes into its fifo.
func FuzzLine(f *testing.F) {
	f.Add(`INSTANCE "VI_1" MASTER 100`)
	f.Add(`GROUP "G" FAULT 0`)
	f.Fuzz(func(t *testing.T, l string) {
		if _, state, ok := parseLine(l); ok && state == "" {
			t.Errorf("%q has no state", l)
		}
	})
}
