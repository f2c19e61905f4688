package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/sync/channel"
	"sasyncd/sync/channel/memnet"
	"sasyncd/sync/wire"
)

const (
	hexA = "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	hexB = "0xf0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
)

func derive(t testing.TB, texts ...string) channel.Keys {
	t.Helper()
	var specs []channel.Spec
	for _, text := range texts {
		s, err := channel.ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, s)
	}
	ks, err := channel.Derive(specs...)
	if err != nil {
		t.Fatal(err)
	}
	return ks
}

// Addresses of nodes: 10.LINK.0.NODE.
func at(link, node int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(link), 0, byte(node)})
}

func addrs(links, node int) (out []string) {
	for l := range links {
		out = append(out, netip.AddrPortFrom(at(l, node), 500).String())
	}
	return out
}

// world is a network in memory with nodes on it.
type world struct {
	t     *testing.T
	net   *memnet.Network
	links int
	keys  channel.Keys
	log   *journal
	nonce uint64
}

func newWorld(t *testing.T, links int) *world {
	return &world{t: t, net: memnet.New(time.Millisecond), links: links, keys: derive(t, hexA),
		log: &journal{start: time.Now()}}
}

// journal keeps log lines for the case that a test fails, and for looking at.
type journal struct {
	start time.Time
	mu    sync.Mutex
	lines []string
}

func (j *journal) logger(who string) *slog.Logger {
	return slog.New(slog.NewTextHandler(entry{j, who}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "")
}

type entry struct {
	j   *journal
	who string
}

func (e entry) Write(b []byte) (int, error) {
	e.j.mu.Lock()
	defer e.j.mu.Unlock()
	_, text, _ := strings.Cut(string(b), " ") // without the date
	e.j.lines = append(e.j.lines, fmt.Sprintf("%10.3fs %s: %s", time.Since(e.j.start).Seconds(), e.who, text))
	return len(b), nil
}

// node is a running Manager.
type node struct {
	*Manager
	name string
	stop func() // says Bye and waits

	mu     sync.Mutex
	events []Event
	paused chan struct{} // consumer waits for it to be closed
}

type option func(*Config)

func withHello(f func(*wire.Hello)) option {
	return func(c *Config) {
		old := c.Hello
		c.Hello = func() *wire.Hello {
			h := old()
			f(h)
			return h
		}
	}
}

// nodeID is the id of a node: ordered like its number.
func nodeID(number int) wire.NodeID { return wire.NodeID{0xaa, byte(number)} }

// start runs a node with the given number that knows peers on all links. Every
// start is another process.
func (w *world) start(number int, peers []int, opts ...option) *node {
	w.t.Helper()
	w.nonce++
	nonce := w.nonce
	cfg := Config{
		Hello: func() *wire.Hello {
			return &wire.Hello{Min: 1, Max: 1, Node: nodeID(number), Nonce: nonce, Kernel: "6.1", Arch: "amd64"}
		},
		Keys: w.keys,
		Log:  w.log.logger(fmt.Sprintf("node%d", number)),
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return nil, err
			}
			return w.net.Dialer(at(int(to.Addr().As4()[1]), number))(ctx, address)
		},
	}
	for l := range w.links {
		nl, err := w.net.Listen(netip.AddrPortFrom(at(l, number), 500))
		if err != nil {
			w.t.Fatal(err)
		}
		cfg.Listeners = append(cfg.Listeners, nl)
	}
	for _, p := range peers {
		cfg.Peers = append(cfg.Peers, Peer{Name: fmt.Sprintf("node%d", p), Addrs: addrs(w.links, p)})
	}
	for _, o := range opts {
		o(&cfg)
	}
	return run(w.t, fmt.Sprintf("node%d", number), cfg)
}

func run(t *testing.T, name string, cfg Config) *node {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Manager: m, name: name, paused: make(chan struct{})}
	close(n.paused)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil && !errors.Is(err, net.ErrClosed) { // closed by a crash
			t.Errorf("%s: %v", name, err)
		}
	}()
	go func() {
		for ev := range m.Events() {
			n.mu.Lock()
			n.events = append(n.events, ev)
			paused := n.paused
			n.mu.Unlock()
			<-paused
		}
	}()
	n.stop = sync.OnceFunc(func() { n.pause(false); cancel(); <-done })
	t.Cleanup(n.stop)
	return n
}

// pause stops the consumer from taking events, or lets it go on.
func (n *node) pause(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.paused:
		if on {
			n.paused = make(chan struct{})
		}
	default:
		if !on {
			close(n.paused)
		}
	}
}

func (n *node) seen() []Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Event(nil), n.events...)
}

// count returns how many events of a kind came.
func (n *node) count(k Kind) (c int) {
	for _, ev := range n.seen() {
		if ev.Kind == k {
			c++
		}
	}
	return c
}

// last returns the newest event of a kind.
func (n *node) last(k Kind) (last Event) {
	for _, ev := range n.seen() {
		if ev.Kind == k {
			last = ev
		}
	}
	return last
}

// session returns the session with a peer, nil without one.
func (n *node) session(peer string) *Session {
	for _, st := range n.Status() {
		if st.Name == peer {
			return st.Session
		}
	}
	return nil
}

func (n *node) trouble(peer string) Reason {
	for _, st := range n.Status() {
		if st.Name == peer {
			return st.Trouble
		}
	}
	return Reason{}
}

// until waits for a condition; in a bubble the time is virtual.
func until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

// showOnFailure prints the journal when the test has failed.
func (w *world) showOnFailure() {
	if w.t.Failed() {
		w.t.Logf("journal:\n%s", w.log)
	}
}
