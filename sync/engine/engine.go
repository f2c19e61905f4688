// Package engine is the one owner of a node's replication: it joins what the
// election says (the role), what the kernel holds, and what the peers tell.
//
// As MASTER it publishes the group's SAs, policies and counters; as BACKUP it
// makes the kernel what the master published, with outbound counters already
// ahead by a margin, so that a takeover is constant work. One goroutine owns
// all state; it is fed by channels, and looks at the election first. What takes
// longer than 100 operations of the kernel, or some hundred items of a
// computation, is divided into turns (tasks.go), so that a message of the election
// waits for one turn at most.
//
// What a group has told, been told and knows of its kernel is in sync/replica, which is
// pure; scope says what belongs to a group. role.go follows the election, master.go the
// kernel of a MASTER, members.go and stream.go speak with the peers, tail.go and split.go
// are for the hard cases, compare.go and succession.go for what operators ask.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"sasyncd/sync/coroutine"
	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/scope"
	"sasyncd/sync/wire"
)

// Fixed times of the engine.
const (
	holdTime      = 2 * time.Second        // deletions that leave a selector uncovered
	housekeeping  = 100 * time.Millisecond // resolution of holds, audits and readiness
	handoverLimit = 80 * time.Millisecond  // how long a hand-over waits for the successor's acknowledgement
	bumpDelay     = 2 * time.Second        // a master of a newer term whose stream is not here by then
	foreignDelay  = 200 * time.Millisecond // how soon a standby looks after a foreign change
	hiddenPause   = 5 * time.Second        // longest pause between readings that do not show what is there
)

// Engine owns a node's replication. Its methods are safe for concurrent use;
// all of them are served by Run's goroutine.
type Engine struct {
	cfg     Config
	kernel  Kernel
	peers   Peers
	elector Elector
	log     *slog.Logger
	start   time.Time

	groups  map[string]*group
	order   []*group
	members map[Session]*member

	report   []byte // what this node says of itself (report.go)
	reported time.Time

	dump  dumping
	turns turns
	calls chan func()
	ready chan struct{}

	bypassed   bool // bypass policies may be in the kernel
	stats      Counts
	seen       observed
	states     atomic.Pointer[[]wire.GroupState] // of all groups, as of the last event
	wallOffset time.Duration                     // of the wall clock against the monotonic one

	ended     chan struct{}        // closed when Run has returned
	questions map[uint32]*question // to peers, by token
	lastToken uint32
	// settled tells when the SAs of emptied groups are to be put back; nil for none.
	settled <-chan time.Time
}

// dumping is the reading of the kernel's tables.
type dumping struct {
	running   bool
	again     bool // read again when the one under way is done
	stale     bool // the one under way is older than what is known
	last      time.Time
	fails     int // how many have failed in a row
	results   chan dumpResult
	chunks    chan *sadb.Chunk // of the one under way
	chunkDone chan struct{}
	scanning  int         // groups whose part of the last one is not finished
	local     scope.Local // of the last one
	localScan scope.LocalScan
}

// turns is whose turn it is, see tasks.go.
type turns struct {
	task    *task // nil for none
	began   time.Time
	last    int                    // the group that had it last, in order
	serving bool                   // Run is under way
	idle    []*coroutine.Coroutine // for the next tasks
}

type dumpResult struct {
	policies []*sadb.Policy
	local    scope.Local // policies only
	err      error
	took     time.Duration
}

// New returns an engine that does nothing until Run.
func New(cfg Config, k Kernel, p Peers, el Elector) *Engine {
	e := &Engine{
		cfg: cfg, kernel: k, peers: p, elector: el, log: cfg.Log,
		start:   time.Now(),
		groups:  make(map[string]*group),
		members: make(map[Session]*member),

		questions: make(map[uint32]*question),
		ended:     make(chan struct{}),
		dump: dumping{results: make(chan dumpResult, 1), chunks: make(chan *sadb.Chunk),
			chunkDone: make(chan struct{})},
		calls: make(chan func()),
		ready: make(chan struct{}),
		seen:  newObserved(),
	}
	if e.cfg.Wall == nil {
		e.cfg.Wall = time.Now
	}
	e.wallOffset = e.offset()
	for _, gc := range cfg.Groups {
		g := newGroup(gc, cfg)
		g.work.turns = replica.Pace{Pause: e.pause, Late: e.late}
		g.rcv.Pace = g.work.turns
		if cfg.Terms != nil {
			g.term = cfg.Terms.Term(gc.Name)
			g.stored = g.term
		}
		if cfg.Failovers != nil {
			g.gap.past = cfg.Failovers.Failovers(gc.Name)
		}
		e.groups[g.name] = g
		e.order = append(e.order, g)
	}
	return e
}

// String names the task.
func (e *Engine) String() string { return "engine" }

// Ready is closed once the kernel's tables have been read for the first time.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Run serves until ctx ends. It leaves the kernel as it is.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.ended)
	events, err := e.kernel.Watch(ctx)
	if err != nil {
		return fmt.Errorf("watch the kernel's tables: %w", err)
	}
	e.requestDump(ctx)
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	work := make(chan struct{}) // there is always something to do
	close(work)
	e.turns.serving = true
	defer e.endCoroutines()
	for {
		e.remember()
		e.updateStates()
		// The election goes first: nothing may delay a change of role.
		select {
		case ev := <-e.elector.Events():
			e.electorEvent(ctx, ev)
			continue
		default:
		}
		next, changes, peers := work, events, e.peers.Events()
		if e.busy() == nil {
			next = nil
		}
		if e.crowded() {
			changes, peers = nil, nil
		}
		select {
		case <-ctx.Done():
			return nil
		case ev := <-e.elector.Events():
			e.electorEvent(ctx, ev)
		case <-next:
			e.turn()
		case ev, ok := <-changes:
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("watch the kernel's tables: closed")
			}
			e.kernelEvents(ctx, ev, events)
		case ev := <-peers:
			e.peerEvent(ctx, ev)
		case c := <-e.dump.chunks:
			e.scanned(c)
			e.dump.chunkDone <- struct{}{}
		case r := <-e.dump.results:
			e.dumped(ctx, r)
		case f := <-e.calls:
			f()
		case <-e.settled:
			e.settled = nil
			for _, g := range e.order {
				e.sasBack(ctx, g)
			}
		case now := <-tick.C:
			e.tick(ctx, now)
		}
	}
}

// errEnded is the answer of an engine that does not run any more.
var errEnded = errors.New("sasyncd is ending")

// do runs f on the engine's goroutine and waits for it.
func (e *Engine) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case e.calls <- func() { f(); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.ended:
		return errEnded
	}
}

// mono is the monotonic time since the engine was made.
func (e *Engine) mono() time.Duration { return time.Since(e.start) }

func (e *Engine) tick(ctx context.Context, now time.Time) {
	e.clockStep(ctx, now)
	e.forgetQuestions()
	every := e.cfg.Audit
	for _, g := range e.order {
		if g.role == wire.RoleMaster {
			every = e.cfg.Interval
		}
	}
	for _, g := range e.order {
		if g.raising != nil {
			every = min(every, raiseAgain)
		}
	}
	if now.Sub(e.dump.last) >= e.readEvery(every) && !e.dump.running {
		e.requestDump(ctx)
	}
	for _, g := range e.order {
		e.groupTick(ctx, g, now)
	}
}

// bypass keeps the own addresses of a BACKUP reachable, and takes that back
// when it is MASTER.
func (e *Engine) bypass(ctx context.Context, policies []*sadb.Policy) {
	if e.cfg.Bypass == nil {
		return
	}
	var vips []netip.Addr
	for _, g := range e.order {
		if g.role == wire.RoleBackup && !g.rcv.Reception().Closed() {
			vips = append(vips, g.own.vips...)
		}
	}
	if len(vips) == 0 && !e.bypassed {
		return
	}
	if err := e.cfg.Bypass(ctx, vips, policies); err != nil {
		if ctx.Err() == nil {
			e.log.Warn("own addresses inside are not reachable from remote sites", "err", err)
		}
		return
	}
	e.bypassed = len(vips) > 0
}

// remember keeps the highest terms over a restart.
func (e *Engine) remember() {
	if e.cfg.Terms == nil {
		return
	}
	for _, g := range e.order {
		if g.term > g.stored {
			g.stored = g.term
			e.cfg.Terms.SetTerm(g.name, g.term)
		}
	}
}

// clockStepLimit is far above what slewing does within one tick.
const clockStepLimit = time.Second

func (e *Engine) offset() time.Duration {
	// Round strips the monotonic reading, so that the difference is of dates.
	return e.cfg.Wall().Round(0).Sub(e.start.Round(0)) - e.mono()
}

// clockStep looks for a step of the wall clock and corrects the dates that
// standbys' kernels compute lifetimes from.
func (e *Engine) clockStep(ctx context.Context, now time.Time) {
	off := e.offset()
	step := off - e.wallOffset
	if step.Abs() < clockStepLimit {
		return
	}
	e.wallOffset = off
	e.log.Warn("the wall clock was stepped", "by", step)
	for _, g := range e.order {
		e.run(g, func() {
			if g.role != wire.RoleMaster {
				e.exec(ctx, g, g.rcv.RefreshAges(now))
			}
		})
	}
}

// apply has the kernel carry out a chunk of operations and times it.
func (e *Engine) apply(ctx context.Context, chunk []sadb.Op) []error {
	began := time.Now()
	errs := e.kernel.Apply(ctx, chunk)
	e.seen.apply.add(time.Since(began))
	return errs
}

// countRefused counts what the kernel has refused.
func (e *Engine) countRefused(op sadb.Op, err error) {
	e.stats.KernelErrors++
	e.seen.refused[Refused{op.Kind.String(), errnoName(err)}]++
}

func (e *Engine) kernelError(g *group, op sadb.Op, err error) {
	e.countRefused(op, err)
	what := ""
	if op.SA != nil {
		what = op.SA.Key.String()
	} else if op.Policy != nil {
		what = op.Policy.Key.String()
	}
	e.log.Error("kernel refused", "group", g.name, "op", op.Kind.String(), "item", what, "err", err)
}

// Counts are totals since the start, for metrics and status.
type Counts struct {
	Dumps             uint64        `json:"dumps"`
	DumpErrors        uint64        `json:"dump_errors"`
	DumpTime          time.Duration `json:"dump_ns"` // of the last one
	DumpSeconds       float64       `json:"dump_seconds"`
	KernelErrors      uint64        `json:"kernel_errors"`
	Resyncs           uint64        `json:"netlink_overruns"`
	Repairs           uint64        `json:"repairs"`
	SnapshotsSent     uint64        `json:"snapshots_sent"`
	SnapshotsReceived uint64        `json:"snapshots_received"`
	Resumes           uint64        `json:"resumes"`
	CutOffs           uint64        `json:"cutoffs"`
	RecordsSent       uint64        `json:"records_sent"`
	RecordsReceived   uint64        `json:"records_received"`
	CountersSent      uint64        `json:"counters_sent"`
	Takeovers         uint64        `json:"takeovers"`
	SplitsSeen        uint64        `json:"two_masters"`
	SplitJumps        uint64        `json:"split_jumps"`
	HeldDeletes       uint64        `json:"held_deletes"`
	DroppedDeletes    uint64        `json:"dropped_deletes"`
	DigestMismatches  uint64        `json:"digest_mismatches"`
	TailRecords       uint64        `json:"tail_records"`
	Mappings          uint64        `json:"nat_mappings"`
	Collected         uint64        `json:"collected_sas"`
	Reinserted        uint64        `json:"reinserted_sas"`
	PoliciesBack      uint64        `json:"reinserted_policies"`
}
