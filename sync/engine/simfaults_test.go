package engine

import (
	"errors"
	"sync/atomic"
	"time"
)

// simFaults are what a simulated kernel does worse than it should. The zero
// value is a kernel without faults.
type simFaults struct {
	dumpFails atomic.Bool
	refused   atomic.Bool  // counters cannot be set
	perApply  atomic.Int64 // nanoseconds that a call of Apply takes
	most      atomic.Int64 // operations of one call
}

var (
	errSimDump    = errors.New("dump: no buffer space available")
	errSimRefused = errors.New("set counters: no buffer space available")
)

func (f *simFaults) dump() error {
	if f.dumpFails.Load() {
		return errSimDump
	}
	return nil
}

func (f *simFaults) apply(n int) {
	f.most.Store(max(f.most.Load(), int64(n)))
	if d := f.perApply.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
}
