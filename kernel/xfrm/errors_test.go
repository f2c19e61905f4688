package xfrm

import (
	"slices"
	"testing"
)

func TestErrorCounts(t *testing.T) {
	got, err := parseErrorCounts("XfrmInError             \t0\nXfrmInStateSeqError     \t18446744073709551615\n")
	if want := []ErrorCount{{"XfrmInError", 0}, {"XfrmInStateSeqError", 1<<64 - 1}}; err != nil ||
		!slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"XfrmInError\n", "XfrmInError -1\n", "XfrmInError 0 0\n"} {
		if got, err := parseErrorCounts(bad); err == nil {
			t.Errorf("%q is read as %v", bad, got)
		}
	}
}
