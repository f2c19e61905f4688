package engine

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// simKernel has the rules of the real tables that the engine relies on.
type simKernel struct {
	faults   simFaults
	beyond   int // operations of sasyncd beyond counters
	mu       sync.Mutex
	sas      map[sadb.SAKey]*sadb.SA
	order    []sadb.SAKey // oldest first
	policies map[sadb.PolicyKey]*sadb.Policy
	watchers []chan sadb.Event
	ops      int
	lowered  []string
	born     time.Time
	dates    map[sadb.SAKey]time.Duration // add_time, on this kernel's wall clock since born
	wall     time.Duration
	dumps    int
	shown    atomic.Int64 // SAs and policies that were handed out
	// policyLooks is how often the policies were looked at by ScanPolicies, policiesTold
	// how many it has told.
	policyLooks, policiesTold int
}

// readings is how often the tables were read.
func (k *simKernel) readings() int { k.mu.Lock(); defer k.mu.Unlock(); return k.dumps }

func newSimKernel() *simKernel {
	return &simKernel{sas: make(map[sadb.SAKey]*sadb.SA), policies: make(map[sadb.PolicyKey]*sadb.Policy),
		dates: make(map[sadb.SAKey]time.Duration), born: time.Now()}
}

// step moves the kernel's wall clock.
func (k *simKernel) step(d time.Duration) { k.mu.Lock(); k.wall += d; k.mu.Unlock() }

// date notes when an SA of this age was added; ageOf computes the age again,
// both by the wall clock as the kernel does.
func (k *simKernel) date(sa *sadb.SA) {
	k.dates[sa.Key] = time.Since(k.born) + k.wall - time.Duration(sa.Age)*time.Second
}

func (k *simKernel) ageOf(key sadb.SAKey) uint64 {
	return uint64(max(time.Since(k.born)+k.wall-k.dates[key], 0) / time.Second)
}

func (k *simKernel) Dump(context.Context) (*sadb.Snapshot, error) {
	time.Sleep(time.Millisecond)
	if err := k.faults.dump(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dumps++
	k.shown.Add(int64(len(k.sas) + len(k.policies)))
	s := &sadb.Snapshot{}
	for _, key := range slices.Backward(k.order) {
		c := *k.sas[key]
		c.Bitmap = slices.Clone(c.Bitmap)
		c.Age = k.ageOf(key)
		s.SAs = append(s.SAs, &c)
	}
	for _, p := range k.policies {
		c := *p
		s.Policies = append(s.Policies, &c)
	}
	return s, nil
}

// ScanPolicies hands out the policies, and a fingerprint of all of them.
func (k *simKernel) ScanPolicies(_ context.Context, known uint64) (list []*sadb.Policy, print uint64, err error) {
	if err := k.faults.dump(); err != nil {
		return nil, 0, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.policyLooks++
	list = make([]*sadb.Policy, 0, len(k.policies))
	for _, p := range k.policies {
		c := *p
		list = append(list, &c)
		print += wire.PolicyDigest(p).Fold() + uint64(p.Index) // the order is the map's
	}
	if print++; print == known {
		return nil, print, nil
	}
	k.policiesTold += len(list)
	k.shown.Add(int64(len(list)))
	return list, print, nil
}

// Scan hands out the SAs as Dump does, five at a time. The fingerprint is the digest's.
func (k *simKernel) Scan(ctx context.Context, f func(*sadb.Chunk) error) error {
	snap, err := k.Dump(ctx)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(snap.SAs, 5) {
		c := &sadb.Chunk{SA: func(i int) (*sadb.SA, error) { sa := *part[i]; return &sa, nil }}
		for _, sa := range part {
			c.Readings = append(c.Readings, sadb.Reading{Key: sa.Key, Config: wire.SADigest(sa).Fold(),
				Counters: sa.Counters,
				Age:      sa.Age, UseAge: sa.UseAge, Used: sa.Used, Tag: sa.Tag})
		}
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

func (k *simKernel) Glances(_ context.Context, keys []sadb.SAKey) (list []sadb.Reading, err error) {
	time.Sleep(100 * time.Microsecond)
	if err := k.faults.dump(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		if sa := k.sas[key]; sa != nil {
			list = append(list, sadb.Reading{Key: key, Counters: sa.Counters, Used: sa.Used})
		}
	}
	k.shown.Add(int64(len(list)))
	return list, nil
}

func (k *simKernel) Watch(context.Context) (<-chan sadb.Event, error) {
	c := make(chan sadb.Event, 4096)
	k.mu.Lock()
	k.watchers = append(k.watchers, c)
	k.mu.Unlock()
	return c, nil
}

func (k *simKernel) Apply(_ context.Context, ops []sadb.Op) []error {
	k.faults.apply(len(ops))
	k.mu.Lock()
	defer k.mu.Unlock()
	errs := make([]error, len(ops))
	for i, op := range ops {
		k.ops++
		errs[i] = k.apply(op, true)
	}
	return errs
}

func (k *simKernel) apply(op sadb.Op, own bool) error {
	if own && op.Kind != sadb.OpSetCounters {
		k.beyond++
	}
	var ev sadb.Event
	switch op.Kind {
	case sadb.OpAddSA:
		if k.sas[op.SA.Key] != nil {
			return fmt.Errorf("add %s: %w", op.SA.Key, fs.ErrExist)
		}
		c := *op.SA
		c.Dir = sadb.DirUnknown
		k.sas[c.Key] = &c
		k.order = append(k.order, c.Key)
		k.date(&c)
		ev = sadb.Event{Kind: sadb.EventPutSA, SA: &c}
	case sadb.OpUpdateSA:
		old := k.sas[op.SA.Key]
		if old == nil {
			return fs.ErrNotExist
		}
		c := *old
		c.Limits = op.SA.Limits
		if c.Encap != nil && op.SA.Encap != nil {
			c.Encap = op.SA.Encap
		}
		k.sas[c.Key] = &c
		ev = sadb.Event{Kind: sadb.EventPutSA, SA: &c}
	case sadb.OpDeleteSA:
		old := k.sas[op.SA.Key]
		if old == nil {
			return nil
		}
		delete(k.sas, op.SA.Key)
		k.order = slices.DeleteFunc(k.order, func(x sadb.SAKey) bool { return x == op.SA.Key })
		ev = sadb.Event{Kind: sadb.EventDeleteSA, SA: old}
	case sadb.OpSetCounters:
		if k.faults.refused.Load() {
			return errSimRefused
		}
		old := k.sas[op.SA.Key]
		if old == nil {
			return fs.ErrNotExist
		}
		if op.SA.OSeq < old.OSeq {
			k.lowered = append(k.lowered, fmt.Sprintf("%s from %d to %d", old.Key, old.OSeq, op.SA.OSeq))
		}
		c := *old
		c.Counters = op.SA.Counters
		k.date(op.SA)
		k.sas[c.Key] = &c
		return nil
	case sadb.OpAddPolicy, sadb.OpUpdatePolicy:
		if op.Kind == sadb.OpAddPolicy && k.policies[op.Policy.Key] != nil {
			return fs.ErrExist
		}
		c := *op.Policy
		k.policies[c.Key] = &c
		ev = sadb.Event{Kind: sadb.EventPutPolicy, Policy: &c}
	case sadb.OpDeletePolicy:
		old := k.policies[op.Policy.Key]
		if old == nil {
			return nil
		}
		delete(k.policies, op.Policy.Key)
		ev = sadb.Event{Kind: sadb.EventDeletePolicy, Policy: old}
	}
	ev.Own = own
	if ev.SA != nil {
		c := *ev.SA // theirs
		c.Bitmap = slices.Clone(c.Bitmap)
		ev.SA = &c
	}
	for _, w := range k.watchers {
		select {
		case w <- ev:
		default:
		}
	}
	return nil
}

// foreign does what an IKE daemon or an operator does.
func (k *simKernel) foreign(ops ...sadb.Op) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, op := range ops {
		_ = k.apply(op, false)
	}
}

// count returns how many operations were asked for.
func (k *simKernel) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ops
}

func (k *simKernel) has(key sadb.SAKey) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sas[key] != nil
}

// flush is `ip xfrm state flush; ip xfrm policy flush`.
func (k *simKernel) flush() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.sas)
	clear(k.policies)
	k.order = nil
	for _, w := range k.watchers {
		w <- sadb.Event{Kind: sadb.EventFlushSA}
		w <- sadb.Event{Kind: sadb.EventFlushPolicy}
	}
}

// flushSAs is what the start of iked does.
func (k *simKernel) flushSAs() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.sas)
	k.order = nil
	for _, w := range k.watchers {
		w <- sadb.Event{Kind: sadb.EventFlushSA}
	}
}

// traffic sends n packets on every outbound SA and returns the numbers used.
func (k *simKernel) traffic(n uint64) map[sadb.SAKey][2]uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	used := make(map[sadb.SAKey][2]uint64)
	for key, sa := range k.sas {
		if !slices.Contains(simVIPs, sa.Src) {
			continue
		}
		c := *sa
		c.OSeq += n
		c.Packets += n
		used[key] = [2]uint64{sa.OSeq + 1, c.OSeq}
		k.sas[key] = &c
	}
	return used
}

// text prints the configuration of the tables, sorted.
func (k *simKernel) text() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var lines []string
	for _, sa := range k.sas {
		lines = append(lines, fmt.Sprintf("%s %x", sa.Key, replica.CoreDigest(sa)))
	}
	for _, p := range k.policies {
		lines = append(lines, fmt.Sprintf("%s %x", p.Key, replica.PolicyDigest(p)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
