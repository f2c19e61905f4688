package simulation

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
)

// sim is one history.
type sim struct {
	t        *testing.T
	seed     uint64
	rng      *rand.Rand
	start    time.Time
	nodes    []*node
	sessions map[[2]int]*session
	syncCut  map[[2]int]bool
	lan      lan
	log      *logBuffer

	remote   map[sadb.SAKey]*kerneltest.Kernel // receivers of the outbound SAs
	used     map[sadb.SAKey]map[uint64]int     // who sent which number
	tunnels  map[int]*tunnel
	next     int
	sent     int
	recorder *recorder
	gossip   bool // the nodes pass on what they know of each other
	apart    bool // two nodes cannot hear each other: both may send

	nat         bool // remote ends are behind NATs
	directed    bool // IKE daemons give SAs what their kernel knows
	masterships int
	answers     int // the node to which the remote ends send, -1 nobody
	back        uint64

	watched *node  // the master of the marks
	marks   []mark // what it had sent, of heardWithin ago and since
}

// tunnel is what the IKE daemon believes to be up.
type tunnel struct {
	out, in  *sadb.SA
	policies []*sadb.Policy
	since    time.Time

	// far is the identity by which the remote end knows its inbound SA, and
	// made the mastership in which it was negotiated.
	far  sadb.SAKey
	made int
	// from is where a remote end behind a NAT sends from, and was the outbound
	// SA before it moved.
	from  netip.AddrPort
	was   *sadb.SA
	inSeq uint64
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// run plays a history of n gateways under a seed inside a bubble of its own.
func run(t *testing.T, seed uint64, n int, play func(*sim)) {
	runWith(t, seed, n, func(*node) {}, play)
}

// runWith is run with nodes that are made otherwise before they start. Histories share
// nothing, so they are played side by side.
func runWith(t *testing.T, seed uint64, n int, with func(*node), play func(*sim)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sim{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 99)), start: time.Now(),
			sessions: make(map[[2]int]*session), syncCut: make(map[[2]int]bool), lan: lan{down: make(map[[2]int]bool)},
			log:     &logBuffer{},
			answers: -1, remote: make(map[sadb.SAKey]*kerneltest.Kernel), used: make(map[sadb.SAKey]map[uint64]int),
			tunnels: make(map[int]*tunnel)}
		for i := range n {
			k := kerneltest.New(time.Now)
			s.nodes = append(s.nodes, &node{s: s, i: i, kernel: k, tables: &tables{Kernel: k}, ike: k.Other(),
				sent: make(map[sadb.SAKey]uint64),
				log:  slog.New(slog.NewTextHandler(s.log, nil)).With("node", i)})
			with(s.nodes[i])
		}
		for _, x := range s.nodes {
			x.startCarpd()
			x.startSasyncd()
		}
		s.connectAll()
		play(s)
		for _, x := range s.nodes {
			x.killCarpd()
			x.killSasyncd()
		}
		time.Sleep(10 * time.Second)
		if t.Failed() {
			s.history()
		}
	})
}

func (s *sim) note(format string, args ...any) {
	fmt.Fprintf(s.log, "== %s %s\n", time.Since(s.start).Round(time.Millisecond), fmt.Sprintf(format, args...))
}

// master returns the node that sends, nil if none or several do.
func (s *sim) master() *node {
	var m *node
	for _, n := range s.nodes {
		if n.sends() {
			if m != nil {
				return nil
			}
			m = n
		}
	}
	return m
}

// add negotiates a tunnel on the master.
func (s *sim) add() {
	m := s.master()
	if m == nil {
		return
	}
	id := s.next
	s.next++
	vip, remote := vips[0], netip.AddrFrom4([4]byte{198, 51, byte(id >> 8), byte(id)})
	local, far := netip.MustParsePrefix("10.1.0.0/24"), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(id), 0}),
		24)
	if id%2 == 1 {
		vip, remote = vips[1], netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff::%x", id+1))
		local, far = netip.MustParsePrefix("fd00:1::/64"), netip.MustParsePrefix(fmt.Sprintf("fd00:2:%x::/64", id+1))
	}
	pol := func(d sadb.Direction, src, dst netip.Prefix, a, b netip.Addr) *sadb.Policy {
		p := kerneltest.SamplePolicy(d, src.String(), dst.String(), a.String(), b.String())
		p.Templates[0].Reqid = uint32(id + 1)
		return p
	}
	t := &tunnel{out: s.sa(vip, remote, id), in: s.sa(remote, vip, id), since: time.Now(),
		policies: []*sadb.Policy{pol(sadb.DirOut, local, far, vip, remote), pol(sadb.DirIn, far, local, remote, vip),
			pol(sadb.DirFwd, far, local, remote, vip)}}
	t.far, t.made, t.from = t.out.Key, s.masterships, netip.AddrPortFrom(remote, natPort)
	ops := []sadb.Op{{Kind: sadb.OpAddSA, SA: t.in}, {Kind: sadb.OpAddSA, SA: t.out}}
	for _, p := range t.policies {
		ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: p})
	}
	s.apply(m, ops...)
	s.tunnels[id] = t
}

func (s *sim) sa(src, dst netip.Addr, id int) *sadb.SA {
	spi := s.rng.Uint32() | 0x1000
	sa := kerneltest.SampleSA(src.String(), dst.String(), spi)
	if id%3 == 0 {
		sa = kerneltest.SampleESN(src.String(), dst.String(), spi)
	}
	sa.Reqid = uint32(id + 1)
	if s.nat {
		sa.Encap = &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: natPort}
		if slices.Contains(vips, dst) {
			sa.Encap.SrcPort, sa.Encap.DstPort = natPort, 4500
		}
		if t := s.tunnels[id]; t != nil { // a rekey
			*sa.Encap = *t.out.Encap
			if slices.Contains(vips, dst) {
				*sa.Encap = *t.in.Encap
			}
		}
	}
	if !slices.Contains(vips, dst) {
		r := kerneltest.New(time.Now)
		s.remote[sa.Key] = r
		for _, err := range r.Apply(s.t.Context(), []sadb.Op{{Kind: sadb.OpAddSA, SA: sa}}) {
			if err != nil {
				s.t.Error(err)
			}
		}
	}
	if s.directed {
		return directed(sa, id, s.master().kernel.Features())
	}
	return sa
}

func (s *sim) apply(n *node, ops ...sadb.Op) {
	for i, err := range n.ike.Apply(s.t.Context(), ops) {
		if err != nil {
			s.t.Errorf("%s: IKE daemon of node %d: %v: %v", time.Since(s.start), n.i, ops[i].Kind, err)
		}
	}
}

// rekey replaces the SAs of a tunnel: new ones first, then the old ones go.
func (s *sim) rekey() {
	m, id, t := s.pick()
	if m == nil {
		return
	}
	old := *t
	t.out, t.in, t.since = s.sa(old.out.Src, old.out.Key.Dst, id), s.sa(old.in.Src, old.in.Key.Dst, id), time.Now()
	t.far, t.made, t.was, t.inSeq = t.out.Key, s.masterships, nil, 0
	s.apply(m, sadb.Op{Kind: sadb.OpAddSA, SA: t.in}, sadb.Op{Kind: sadb.OpAddSA, SA: t.out},
		sadb.Op{Kind: sadb.OpDeleteSA, SA: old.out}, sadb.Op{Kind: sadb.OpDeleteSA, SA: old.in})
}

func (s *sim) pick() (*node, int, *tunnel) {
	m := s.master()
	if m == nil || len(s.tunnels) == 0 {
		return nil, 0, nil
	}
	ids := make([]int, 0, len(s.tunnels))
	for id := range s.tunnels {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	id := ids[s.rng.IntN(len(ids))]
	return m, id, s.tunnels[id]
}

// traffic sends one packet on every tunnel from every node that sends at all,
// and gives it to the remote end.
func (s *sim) traffic() {
	senders := 0
	for _, n := range s.nodes {
		if n.sends() {
			senders++
		}
	}
	if senders > 1 && !s.apart {
		s.t.Errorf("%s: %d nodes send", time.Since(s.start), senders)
	}
	if s.answers >= 0 && s.nodes[s.answers].sends() {
		for _, t := range s.tunnels {
			s.back++
			s.nodes[s.answers].kernel.Receive(t.in.Key, s.back, 100)
		}
	}
	for _, n := range s.nodes {
		s.send(n)
	}
}

// send sends one packet on every tunnel from a node, if it sends at all.
func (s *sim) send(n *node) {
	if n.sends() {
		for _, t := range s.tunnels {
			if s.nat {
				t.inSeq++
				n.kernel.ReceiveFrom(t.in.Key, t.inSeq, 100, t.from)
			}
			arrives, on := true, t.out.Key
			seq, ok := n.kernel.Send(t.out.Key, 100)
			if !ok && t.was != nil { // still to where the remote end was
				arrives, on = false, t.was.Key
				seq, ok = n.kernel.Send(t.was.Key, 100)
			}
			if !ok {
				continue
			}
			s.sent++
			used := s.used[t.far]
			if used == nil {
				used = make(map[uint64]int)
				s.used[t.far] = used
			}
			if who, again := used[seq]; again && !s.apart {
				s.t.Errorf("%s: I1: node %d sends number %d on %s, node %d sent it before", time.Since(s.start), n.i,
					seq, t.out.Key, who)
			}
			used[seq] = n.i
			n.mu.Lock()
			n.sent[on] = seq
			n.mu.Unlock()
			if arrives && !s.remote[t.far].Receive(t.far, seq, 100) && !s.apart {
				s.t.Errorf("%s: node %d's number %d on %s is refused by the remote end", time.Since(s.start), n.i, seq,
					t.out.Key)
			}
		}
	}
}

// pass lets time go by under traffic.
func (s *sim) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		s.traffic()
		if time.Since(s.start)/(200*time.Millisecond) != (time.Since(s.start)-20*time.Millisecond)/(200*time.Millisecond) {
			s.connectAll()
			s.passOn()
		}
		if time.Since(s.start)/watchEvery != (time.Since(s.start)-20*time.Millisecond)/watchEvery {
			s.watch()
		}
		if s.t.Failed() {
			return
		}
	}
}

// quiet heals everything, waits, and checks that one master serves all
// tunnels and that all members hold the same.
func (s *sim) quiet() {
	s.note("quiet")
	for i, n := range s.nodes {
		for j := range i {
			s.syncCut[pairOf(i, j)] = false
			s.lan.set(i, j, false)
		}
		if !n.electing() {
			n.startCarpd()
		}
		if n.engine == nil {
			n.startSasyncd()
		}
	}
	s.pass(30 * time.Second)
	s.apart = false
	s.pass(5 * time.Second)
	if s.t.Failed() {
		return
	}
	m := s.master()
	if m == nil {
		s.t.Errorf("seed %d: after quiet there is no single master", s.seed)
		return
	}
	for _, n := range s.nodes {
		if n == m {
			continue
		}
		want := configFor(m, n.kernel.ABI().Features)
		if got := configFor(n, n.kernel.ABI().Features); got != want {
			s.t.Errorf("I4: seed %d: tables of node %d and the master %d differ:\n--- node %d\n%s\n--- node %d\n%s",
				s.seed, n.i, m.i, n.i, got, m.i, want)
		}
		if all, _ := n.engine.Status(s.t.Context()); all.Counts.DigestMismatches != 0 {
			s.t.Errorf("I4: seed %d: node %d had not heard what its master published", s.seed, n.i)
		}
		if st := n.status(); !st.InSync {
			s.t.Errorf("seed %d: node %d is not in sync after quiet: %s", s.seed, n.i, st.Why)
		}
	}
	for id, t := range s.tunnels {
		if _, ok := m.kernel.Send(t.out.Key, 1); !ok {
			s.t.Errorf("seed %d: tunnel %d was lost", s.seed, id)
		}
	}
}

// config prints a node's tables without what moves or differs by design.
func config(n *node) string { return configFor(n, sadb.AllFeatures()) }

// configFor is config as a kernel with these features can hold it.
func configFor(n *node, f sadb.Features) string {
	snap, _ := n.kernel.Dump(n.s.t.Context())
	for i, sa := range snap.SAs {
		fit, _ := f.Fit(sa)
		snap.SAs[i] = fit
	}
	for _, sa := range snap.SAs {
		sa.Counters = sadb.Counters{}
		sa.Age, sa.Used, sa.UseAge, sa.Tag, sa.Dir = 0, false, 0, 0, sadb.DirUnknown
		sa.Limits = sadb.Limits{}
	}
	for _, p := range snap.Policies {
		p.Index, p.Use = 0, sadb.Use{}
	}
	return kerneltest.SnapshotText(snap)
}
