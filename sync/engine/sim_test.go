package engine

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// world is a set of nodes in virtual time, joined by sessions that encode and
// decode every message as the real ones do.
type world struct {
	// countersOnly: of the group of nodes that boot.
	countersOnly bool
	t            *testing.T
	nodes        []*simNode
	links        map[[2]int]*simLink
	log          *lockedLog
	// forward is the flush mode of nodes that boot, more their groups besides
	// simGroup.
	forward bool
	more    []GroupConfig
	caps    uint64 // that all nodes claim
	margin  sadb.Margin
	// lose, if it is set, sees each message of a node and says whether it is lost.
	lose func(from int, m wire.Message) bool
}

type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

type simNode struct {
	w       *world
	i       int
	id      wire.NodeID
	kernel  *simKernel
	elector *simElector
	peers   *simPeers
	engine  *Engine
	keying  Keying // nil for none
	hints   func(string) []Hint
	fence   func(context.Context, []netip.Addr) error
	release string       // of the kernel
	wall    atomic.Int64 // how far the wall clock is off, in nanoseconds
	cancel  context.CancelFunc
	done    chan struct{}
}

const simGroup = "carp1"

var simVIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, links: make(map[[2]int]*simLink), log: &lockedLog{}, forward: true, caps: wire.Caps, margin: sadb.DefaultMargin()}
	for i := range n {
		w.nodes = append(w.nodes, &simNode{w: w, i: i, kernel: newSimKernel()})
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.log.b.String())
		}
	})
	return w
}

// boot starts sasyncd on a node; its kernel stays as it is.
func (n *simNode) boot(nonce uint64) {
	n.id = wire.NodeID{byte(n.i + 1)}
	n.elector = &simElector{events: make(chan ElectorEvent, 16), ready: make(map[string]Readiness)}
	n.peers = &simPeers{events: make(chan PeerEvent, 256)}
	log := slog.New(slog.NewTextHandler(n.w.log, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", n.i)
	n.engine = New(Config{
		Node: n.id, Nonce: nonce, Kernel: n.release, Peers: len(n.w.nodes) - 1, Groups: append([]GroupConfig{{Name: simGroup, CountersOnly: n.w.countersOnly}}, n.w.more...),
		Margin: n.w.margin, Interval: time.Second, Audit: 2 * time.Second, Sweep: true, ForwardFlush: n.w.forward, Log: log, Keying: n.keying, Fence: n.fence, Hints: n.hints,
		Wall: func() time.Time { return time.Now().Add(time.Duration(n.wall.Load())) },
	}, n.kernel, n.peers, n.elector)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan struct{})
	go func() {
		defer close(n.done)
		if err := n.engine.Run(ctx); err != nil {
			n.w.t.Errorf("node %d: %v", n.i, err)
		}
	}()
}

// kill stops sasyncd on a node and cuts its sessions.
func (n *simNode) kill() {
	for i := range n.w.nodes {
		n.w.cut(n.i, i)
	}
	n.cancel()
	<-n.done
}

func (n *simNode) role(r wire.Role, term uint64) {
	n.elector.events <- ElectorEvent{Kind: ElectorState, Group: simGroup, Role: r, Term: term, VIPs: simVIPs, Reason: "test"}
	synctest.Wait()
}

func (n *simNode) status() GroupStatus {
	s, err := n.engine.Status(context.Background())
	if err != nil {
		n.w.t.Fatal(err)
	}
	return s.Groups[0]
}

type simElector struct {
	events   chan ElectorEvent
	mu       sync.Mutex
	prepared []uint64
	takeover []uint64
	silent   time.Duration // of the latest takeover
	resigned []string
	ready    map[string]Readiness
	held     []time.Duration // leases asked for, 0 ends one
	unable   error           // what Able and HoldBack answer
}

func (e *simElector) Events() <-chan ElectorEvent { return e.events }
func (e *simElector) Prepared(_ string, t uint64) {
	e.mu.Lock()
	e.prepared = append(e.prepared, t)
	e.mu.Unlock()
}
func (e *simElector) Ready(g string, r Readiness) { e.mu.Lock(); e.ready[g] = r; e.mu.Unlock() }
func (e *simElector) Takeover(_ string, t uint64, silent time.Duration) {
	e.mu.Lock()
	e.takeover, e.silent = append(e.takeover, t), silent
	e.mu.Unlock()
}

// HoldBack and Able make it a Director.
func (e *simElector) HoldBack(_ string, d time.Duration, _ string, done func(error)) {
	e.mu.Lock()
	e.held = append(e.held, d)
	e.mu.Unlock()
	e.Able("", done)
}

func (e *simElector) Able(_ string, done func(error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	go done(e.unable)
}

func (e *simElector) refuse(why error) { e.mu.Lock(); e.unable = why; e.mu.Unlock() }

// leases returns and forgets the leases that were asked for.
func (e *simElector) leases() []time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.held
	e.held = nil
	return l
}

// takeovers returns and forgets the terms of which a take-over was ordered.
func (e *simElector) takeovers() []uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.takeover
	e.takeover = nil
	return t
}

// resignations returns how often this node was asked to give up.
func (e *simElector) resignations() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.resigned)
}

func (e *simElector) Resign(_, why string) {
	e.mu.Lock()
	e.resigned = append(e.resigned, why)
	e.mu.Unlock()
}

type simPeers struct{ events chan PeerEvent }

func (p *simPeers) Events() <-chan PeerEvent { return p.events }
func (p *simPeers) Kick()                    {}

// simLink is a connection of two nodes: a queue each way.
type simLink struct{ a, b *simSession }

type simSession struct {
	to     *simNode
	from   *simNode
	queue  chan []byte
	peer   *simSession
	closed chan struct{}
	once   sync.Once
}

func (s *simSession) Peer() string { return fmt.Sprintf("10.9.0.%d", s.to.i+1) }
func (s *simSession) Queued() int  { return len(s.queue) }

func (s *simSession) Send(m wire.Message) bool {
	if s.from.w.lose != nil && s.from.w.lose(s.from.i, m) {
		return true
	}
	b, err := wire.AppendFrame(nil, m)
	if err != nil {
		s.from.w.t.Errorf("encode: %v", err)
		return false
	}
	select {
	case s.queue <- b:
		return true
	default:
		return false
	}
}

func (s *simSession) Close(code wire.ByeCode, reason string) {
	s.once.Do(func() { close(s.closed) })
	s.peer.once.Do(func() { close(s.peer.closed) })
}

// join boots all nodes, with identities from a number on, makes the first MASTER
// and the others its standbys, and connects each with each.
func (w *world) join(first uint64) {
	role := wire.RoleMaster
	for i, n := range w.nodes {
		n.boot(first + uint64(i))
	}
	for i, n := range w.nodes {
		n.role(role, 1)
		role = wire.RoleBackup
		for j := range i {
			w.connect(j, i)
		}
	}
}

// connect joins two nodes.
func (w *world) connect(i, j int) {
	w.cut(i, j)
	a, b := w.nodes[i], w.nodes[j]
	sa := &simSession{from: a, to: b, queue: make(chan []byte, 4096), closed: make(chan struct{})}
	sb := &simSession{from: b, to: a, queue: make(chan []byte, 4096), closed: make(chan struct{})}
	sa.peer, sb.peer = sb, sa
	w.links[[2]int{min(i, j), max(i, j)}] = &simLink{sa, sb}
	for _, s := range []*simSession{sa, sb} {
		s.to.peers.events <- PeerEvent{Kind: PeerUp, Session: s.peer, Hello: &wire.Hello{Node: s.from.id, Caps: w.caps, Kernel: s.from.release, Groups: s.from.engine.Groups()}}
		go s.deliver()
	}
	synctest.Wait()
}

func (s *simSession) deliver() {
	for {
		select {
		case <-s.closed:
			select {
			case s.to.peers.events <- PeerEvent{Kind: PeerDown, Session: s.peer}:
			case <-s.to.done:
			}
			return
		case b := <-s.queue:
			time.Sleep(200 * time.Microsecond) // the wire
			m, err := wire.Parse(wire.Type(b[4]), b[wire.HeaderLen:])
			if err != nil {
				s.to.w.t.Errorf("parse: %v", err)
				return
			}
			select {
			case s.to.peers.events <- PeerEvent{Kind: PeerMessage, Session: s.peer, Message: m}:
			case <-s.to.done:
				return
			}
		}
	}
}

func (w *world) cut(i, j int) {
	k := [2]int{min(i, j), max(i, j)}
	if l := w.links[k]; l != nil {
		l.a.Close(0, "")
		delete(w.links, k)
		synctest.Wait()
	}
}

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
}

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

// Scan hands out what Dump does, five at a time. The fingerprint is the digest's.
func (k *simKernel) Scan(ctx context.Context, f func(*sadb.Chunk) error) ([]*sadb.Policy, error) {
	snap, err := k.Dump(ctx)
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(snap.SAs, 5) {
		c := &sadb.Chunk{SA: func(i int) (*sadb.SA, error) { sa := *part[i]; return &sa, nil }}
		for _, sa := range part {
			c.Readings = append(c.Readings, sadb.Reading{Key: sa.Key, Config: wire.SADigest(sa).Fold(), Counters: sa.Counters,
				Age: sa.Age, UseAge: sa.UseAge, Used: sa.Used, Tag: sa.Tag})
		}
		if err := f(c); err != nil {
			return nil, err
		}
	}
	return snap.Policies, nil
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
		lines = append(lines, fmt.Sprintf("%s %x", sa.Key, coreDigest(sa)))
	}
	for _, p := range k.policies {
		lines = append(lines, fmt.Sprintf("%s %x", p.Key, policyDigest(p)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// tunnel returns the pair of SAs and the policies of one tunnel to a remote
// gateway.
func tunnel(r *rand.Rand, n int, v6 bool) []sadb.Op {
	vip, remote := simVIPs[0], netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
	local, far := netip.MustParsePrefix("10.1.0.0/24"), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(n), 0}), 24)
	if v6 {
		vip, remote = simVIPs[1], netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff::%x", n+1))
		local, far = netip.MustParsePrefix("fd00:1::/64"), netip.MustParsePrefix(fmt.Sprintf("fd00:2:%x::/64", n+1))
	}
	key := make([]byte, 20)
	for i := range key {
		key[i] = byte(r.Uint32())
	}
	sa := func(src, dst netip.Addr) *sadb.SA {
		s := &sadb.SA{Key: sadb.SAKey{Dst: dst, SPI: r.Uint32() | 0x1000, Proto: sadb.ProtoESP}, Src: src,
			Selector: sadb.Selector{Family: sadb.FamilyOf(dst)}, Mode: sadb.ModeTunnel, Reqid: uint32(n + 1),
			AEAD: &sadb.Algorithm{Name: "rfc4106(gcm(aes))", Key: sadb.NewSecret(key), TruncBits: 128}, Window: 32,
			Limits: sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit, SoftPackets: sadb.NoLimit, HardPackets: sadb.NoLimit, HardAdd: 3600, SoftAdd: 3000}}
		if n%2 == 0 {
			s.Flags, s.BitmapLen, s.Window = sadb.FlagESN, 4, 128
		}
		return s
	}
	pol := func(dir sadb.Direction, src, dst netip.Prefix, tsrc, tdst netip.Addr) *sadb.Policy {
		return &sadb.Policy{Key: sadb.PolicyKey{Dir: dir, Selector: sadb.SelectorOf(src, dst)},
			Templates: []sadb.Template{{Src: tsrc, Dst: tdst, Proto: sadb.ProtoESP, Family: sadb.FamilyOf(tdst), Reqid: uint32(n + 1), Mode: sadb.ModeTunnel}}}
	}
	return []sadb.Op{
		{Kind: sadb.OpAddSA, SA: sa(vip, remote)},
		{Kind: sadb.OpAddSA, SA: sa(remote, vip)},
		{Kind: sadb.OpAddPolicy, Policy: pol(sadb.DirOut, local, far, vip, remote)},
		{Kind: sadb.OpAddPolicy, Policy: pol(sadb.DirIn, far, local, remote, vip)},
		{Kind: sadb.OpAddPolicy, Policy: pol(sadb.DirFwd, far, local, remote, vip)},
	}
}
