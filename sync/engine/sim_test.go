package engine

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
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

// count is how many lines have a text.
func (l *lockedLog) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
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

var simVIPs = sadbtest.VIPs()

// tunnel returns the SAs and policies of the n-th tunnel.
var tunnel = sadbtest.Tunnel

func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, links: make(map[[2]int]*simLink), log: &lockedLog{}, forward: true, caps: wire.Caps,
		margin: sadb.DefaultMargin()}
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
		Node: n.id, Nonce: nonce, Kernel: n.release, Peers: len(n.w.nodes) - 1,
		Groups: append([]GroupConfig{{Name: simGroup, CountersOnly: n.w.countersOnly}}, n.w.more...),
		Margin: n.w.margin, Interval: time.Second, Audit: 2 * time.Second, Sweep: true, ForwardFlush: n.w.forward,
		Log: log, Keying: n.keying, Fence: n.fence, Hints: n.hints,
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
	n.elector.events <- ElectorEvent{Kind: ElectorState, Group: simGroup, Role: r, Term: term, VIPs: simVIPs,
		Reason: "test"}
	synctest.Wait()
}

func (n *simNode) status() GroupStatus {
	s, err := n.engine.Status(context.Background())
	if err != nil {
		n.w.t.Fatal(err)
	}
	return s.Groups[0]
}

func (e *simElector) Events() <-chan ElectorEvent { return e.events }

type simPeers struct{ events chan PeerEvent }

func (p *simPeers) Events() <-chan PeerEvent { return p.events }

func (p *simPeers) Kick() {}

// simLink is a connection of two nodes: a queue each way.
type simLink struct{ a, b *simSession }

type simSession struct {
	to      *simNode
	from    *simNode
	queue   chan []byte
	peer    *simSession
	closed  chan struct{}
	once    sync.Once
	stalled atomic.Bool // the other end takes nothing
}

func (s *simSession) Peer() string { return fmt.Sprintf("10.9.0.%d", s.to.i+1) }

func (s *simSession) Queued() int { return len(s.queue) }

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
		s.to.peers.events <- PeerEvent{Kind: PeerUp, Session: s.peer, Hello: &wire.Hello{Node: s.from.id, Caps: w.caps,
			Kernel: s.from.release, Groups: s.from.engine.Groups()}}
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
			if s.stalled.Load() {
				<-s.closed
				continue
			}
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
