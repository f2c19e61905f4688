package replica

import (
	"testing"

	"sasyncd/sync/sadb"
)

// TestOpList: operations come out as they went in, in pieces of any size.
func TestOpList(t *testing.T) {
	for _, n := range []int{0, 1, opFirst, opFirst + 1, opFirst + opBlock, 3*opBlock + 7} {
		for _, step := range []int{1, 100, 5000} {
			var l OpList
			for i := 0; i < n; {
				var ops []sadb.Op
				for range min(3, n-i) {
					ops = append(ops, sadb.Op{SA: &sadb.SA{Reqid: uint32(i)}})
					i++
				}
				l.Add(ops...)
			}
			if l.Empty() != (n == 0) {
				t.Errorf("%d operations: empty %v", n, l.Empty())
			}
			got := 0
			for ops := l.Next(step); ops != nil; ops = l.Next(step) {
				if len(ops) > step {
					t.Fatalf("%d operations at once, want at most %d", len(ops), step)
				}
				for _, op := range ops {
					if int(op.SA.Reqid) != got {
						t.Fatalf("operation %d is number %d", op.SA.Reqid, got)
					}
					got++
				}
			}
			if got != n || !l.Empty() {
				t.Errorf("%d of %d operations came out, empty %v", got, n, l.Empty())
			}
		}
	}
}
