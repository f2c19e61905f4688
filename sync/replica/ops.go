package replica

import "sasyncd/sync/sadb"

// OpList is operations in their order, in blocks: a slice of a hundred thousand would be
// copied as a whole, within one turn, each time it grows.
type OpList [][]sadb.Op

// A list begins with a small block, as most have a few operations only.
const (
	opFirst = 16
	opBlock = 1024
)

// Add appends operations.
func (l *OpList) Add(ops ...sadb.Op) {
	for len(ops) > 0 {
		last := len(*l) - 1
		if last < 0 || len((*l)[last]) == cap((*l)[last]) {
			size := opBlock
			if last < 0 {
				size = opFirst
			}
			*l = append(*l, make([]sadb.Op, 0, size))
			last++
		}
		b := &(*l)[last]
		n := min(len(ops), cap(*b)-len(*b))
		*b = append(*b, ops[:n]...)
		ops = ops[n:]
	}
}

// Empty reports whether nothing is left.
func (l OpList) Empty() bool { return len(l) == 0 || len(l) == 1 && len(l[0]) == 0 }

// Next takes up to n operations from the list, nil if it is empty.
func (l *OpList) Next(n int) []sadb.Op {
	for len(*l) > 0 && len((*l)[0]) == 0 {
		*l = (*l)[1:]
	}
	if len(*l) == 0 {
		return nil
	}
	b := (*l)[0]
	n = min(n, len(b))
	if (*l)[0] = b[n:]; n == len(b) {
		*l = (*l)[1:]
	}
	return b[:n:n]
}

// Repairs counts the operations, but for those that set counters: an audit may raise these
// without anything having gone wrong.
func (l OpList) Repairs() (n int) {
	for _, ops := range l {
		for _, op := range ops {
			if op.Kind != sadb.OpSetCounters {
				n++
			}
		}
	}
	return n
}
