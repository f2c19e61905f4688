package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// tables are a kernel's as sasyncd reads them. Readings fail while broken says so.
type tables struct {
	*kerneltest.Kernel
	broken atomic.Bool
	mended time.Time // when readings last worked again
}

var errBroken = errors.New("netlink: no buffer space available")

func (t *tables) Dump(ctx context.Context) (*sadb.Snapshot, error) {
	if t.broken.Load() {
		return nil, errBroken
	}
	return t.Kernel.Dump(ctx)
}

func (t *tables) Scan(ctx context.Context, f func(*sadb.Chunk) error) error {
	if t.broken.Load() {
		return errBroken
	}
	return t.Kernel.Scan(ctx, f)
}

func (t *tables) ScanPolicies(ctx context.Context, known uint64) ([]*sadb.Policy, uint64, error) {
	if t.broken.Load() {
		return nil, 0, errBroken
	}
	return t.Kernel.ScanPolicies(ctx, known)
}

func (t *tables) Glances(ctx context.Context, keys []sadb.SAKey) ([]sadb.Reading, error) {
	if t.broken.Load() {
		return nil, errBroken
	}
	return t.Kernel.Glances(ctx, keys)
}

// breakReadings makes the node's readings of its tables fail, or work again.
func (n *node) breakReadings(broken bool) {
	n.s.note("readings of node %d fail: %v", n.i, broken)
	n.tables.broken.Store(broken)
	n.tables.mended = time.Now()
}

// counters returns the counters of the outbound SAs of a node's kernel.
func (n *node) counters() map[sadb.SAKey]uint64 {
	snap, err := n.kernel.Dump(n.s.t.Context())
	if err != nil {
		n.s.t.Error(err)
		return nil
	}
	out := make(map[sadb.SAKey]uint64)
	for _, sa := range snap.SAs {
		if slices.Contains(vips, sa.Src) {
			out[sa.Key] = sa.OSeq
		}
	}
	return out
}

const (
	// heardWithin is by when a standby in contact with its master must have
	// installed what the master's counters were: two intervals and a half.
	heardWithin = 2500 * time.Millisecond
	watchEvery  = 400 * time.Millisecond
)

// mark is what the master had sent at one moment.
type mark struct {
	at   time.Time
	sent map[sadb.SAKey]uint64
}

// watch looks at what standbys say of themselves. One that is in sync and in
// contact takes the counters of all SAs, so each of its own is beyond what the
// master had sent a moment ago. One that was MASTER is not in sync before its
// counters are beyond what it has sent itself, by the margin of its successor.
func (s *sim) watch() {
	m := s.master()
	if m != s.watched || m == nil || s.apart {
		s.watched, s.marks = m, nil
	}
	for _, n := range s.nodes {
		if n == m || !n.saysInSync() {
			continue
		}
		own := n.counters()
		n.mu.Lock()
		for k, sent := range n.sent {
			if have, ok := own[k]; ok && have < sent+margin {
				s.t.Errorf("%s: I1: node %d was MASTER and says that it is in sync, its counter for %s is %d, it has "+
					"sent %d itself",
					time.Since(s.start), n.i, k, have, sent)
			}
		}
		n.mu.Unlock()
		if m == nil || len(s.marks) == 0 || time.Since(s.marks[0].at) < heardWithin || !s.inContact(m, n) {
			continue
		}
		for k, sent := range s.marks[0].sent {
			if have, ok := own[k]; ok && have < sent {
				s.t.Errorf("%s: I1: node %d says that it is in sync, its counter for %s is %d, and node %d had sent "+
					"%d %v ago",
					time.Since(s.start), n.i, k, have, m.i, sent, time.Since(s.marks[0].at))
			}
		}
	}
	if m == nil || s.apart {
		return
	}
	s.marks = append(s.marks, mark{time.Now(), m.counters()})
	for len(s.marks) > 1 && time.Since(s.marks[1].at) >= heardWithin {
		s.marks = s.marks[1:]
	}
}

// saysInSync reports whether the node is a BACKUP that has told its election that
// it is in sync.
func (n *node) saysInSync() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.events != nil && n.role == wire.RoleBackup && n.inSync
}

// inContact reports whether a master's counters have been able to reach a standby
// for a while.
func (s *sim) inContact(m, n *node) bool {
	x := s.sessions[pairOf(m.i, n.i)]
	if x == nil || time.Since(x.began) < heardWithin {
		return false
	}
	for _, y := range []*node{m, n} {
		if y.tables.broken.Load() || time.Since(y.tables.mended) < heardWithin {
			return false
		}
	}
	return true
}

// busy lets time go by in which the IKE daemon of the MASTER rekeys.
func (s *sim) busy(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && !s.t.Failed(); {
		s.pass(min(time.Until(end), time.Duration(200+s.rng.IntN(2000))*time.Millisecond))
		if s.rng.IntN(2) == 0 {
			s.rekey()
		}
	}
}

// burst sends n packets at once on every tunnel of a node.
func (s *sim) burst(m *node, n int) {
	s.note("node %d sends %d packets at once on every tunnel", m.i, n)
	for range n {
		s.send(m)
	}
}

// history prints how to play a failed history again, what was done in it, and the
// end of the log.
func (s *sim) history() {
	lines := strings.Split(s.log.b.String(), "\n")
	var notes []string
	for _, l := range lines {
		if strings.HasPrefix(l, "== ") {
			notes = append(notes, l)
		}
	}
	top, _, _ := strings.Cut(s.t.Name(), "/")
	s.t.Logf("again: %s\nthe history:\n%s\nthe last of %d log lines:\n%s",
		fmt.Sprintf("go test ./tests/simulation -run '^%s$/^%d$' -seed %d -histories 1", top, s.seed, s.seed),
		strings.Join(notes, "\n"), len(lines), strings.Join(lines[max(0, len(lines)-120):], "\n"))
}
