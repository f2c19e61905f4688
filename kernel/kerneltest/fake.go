package kerneltest

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

// Kernel is one process's view of a fake kernel. Its methods are safe for
// concurrent use.
type Kernel struct {
	*tables
	process int
}

// tables is what all processes share.
type tables struct {
	now func() time.Time

	mu        sync.Mutex
	processes int
	sas       []*sa     // newest first
	policies  []*policy // newest first
	watchers  map[*watcher]struct{}
	fault     func(sadb.Op) error
	saTag     uint32
	polTag    uint32
	configs   uint64 // fingerprints given out
	abi       ABI
	resyncs   uint64
	applied   map[sadb.OpKind]int
}

// New returns a fake kernel with empty tables. now is its wall clock, by which
// time limits are judged; limits are looked at when timers of package time say
// so, as the real kernel does with its own.
func New(now func() time.Time) *Kernel {
	t := &tables{now: now, watchers: make(map[*watcher]struct{}), applied: make(map[sadb.OpKind]int),
		abi: ABI{Features: sadb.AllFeatures(), IPTFS: IPTFSBuilt}}
	return t.join()
}

func (t *tables) join() *Kernel {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.processes++
	return &Kernel{tables: t, process: t.processes}
}

// first is the process that New makes. It is sasyncd: what it adds gets its tag.
const first = 1

// Other returns the view of another process on the same tables: what it does is
// not Own to this one, and what it adds gets no tag. The IKE daemon of a test is
// one.
func (k *Kernel) Other() *Kernel { return k.join() }

// SetFault lets f refuse operations before they happen. nil ends that.
func (k *Kernel) SetFault(f func(sadb.Op) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fault = f
}

// Applied returns how many operations of a kind have been asked for, of all
// processes.
func (k *Kernel) Applied(kind sadb.OpKind) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.applied[kind]
}

// Dump returns a copy of the tables, SAs and policies newest first.
func (k *Kernel) Dump(ctx context.Context) (*sadb.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	snap := new(sadb.Snapshot)
	now := k.now().Unix()
	for _, s := range k.sas {
		snap.SAs = append(snap.SAs, s.view(now))
	}
	for _, p := range k.policies {
		snap.Policies = append(snap.Policies, p.view(now))
	}
	return snap, nil
}

// scanChunk is how many SAs Scan hands out at a time: few, so that the ends of
// chunks are met in small tests too.
const scanChunk = 3

// Scan hands out a copy of the tables as the real one does. They may change
// between chunks; what is new then is not shown.
func (k *Kernel) Scan(ctx context.Context, f func(*sadb.Chunk) error) ([]*sadb.Policy, error) {
	k.mu.Lock()
	list := slices.Clone(k.sas)
	k.mu.Unlock()
	for part := range slices.Chunk(list, scanChunk) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := sadb.Chunk{}
		var whole []*sadb.SA
		k.mu.Lock()
		now := k.now().Unix()
		for _, s := range part {
			if !s.gone {
				c.Readings = append(c.Readings, s.reading(now))
				whole = append(whole, s.view(now))
			}
		}
		k.mu.Unlock()
		c.SA = func(i int) (*sadb.SA, error) { return whole[i], nil }
		if err := f(&c); err != nil {
			return nil, err
		}
	}
	snap, err := k.Dump(ctx)
	if err != nil {
		return nil, err
	}
	return snap.Policies, nil
}

// Apply executes ops in order, as the real one does.
func (k *Kernel) Apply(ctx context.Context, ops []sadb.Op) []error {
	errs := make([]error, len(ops))
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, op := range ops {
		if err := ctx.Err(); err != nil {
			errs[i] = err
			continue
		}
		k.applied[op.Kind]++
		if k.fault != nil {
			if errs[i] = k.fault(op); errs[i] != nil {
				continue
			}
		}
		errs[i] = k.apply(op)
	}
	return errs
}

func (k *Kernel) apply(op sadb.Op) error {
	switch op.Kind {
	case sadb.OpAddSA, sadb.OpUpdateSA, sadb.OpDeleteSA, sadb.OpSetCounters:
		if op.SA == nil {
			return refuse(op, unix.EINVAL)
		}
	default:
		if op.Policy == nil {
			return refuse(op, unix.EINVAL)
		}
	}
	switch op.Kind {
	case sadb.OpAddSA:
		return k.addSA(op)
	case sadb.OpUpdateSA:
		return k.updateSA(op)
	case sadb.OpDeleteSA:
		k.deleteSA(op.SA.Key)
		return nil
	case sadb.OpSetCounters:
		return k.setCounters(op)
	case sadb.OpAddPolicy, sadb.OpUpdatePolicy:
		return k.putPolicy(op)
	case sadb.OpDeletePolicy:
		k.deletePolicy(op.Policy.Key)
		return nil
	}
	return refuse(op, unix.EINVAL)
}

func refuse(op sadb.Op, errno unix.Errno) *xfrm.OpError {
	e := &xfrm.OpError{Kind: op.Kind, Errno: errno}
	switch {
	case op.SA != nil:
		e.Item = op.SA.Key.String()
	case op.Policy != nil:
		e.Item = op.Policy.Key.String()
	}
	return e
}
