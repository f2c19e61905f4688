package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"sasyncd/sync/channel"
	"sasyncd/sync/wire"
)

// Peer is another node as configured.
type Peer struct {
	// Name is for logs and status, and names the peer across changes of the
	// configuration.
	Name string
	// Addrs are addresses or names of the same node on different links, each
	// host:port, the preferred first. Connections are accepted from them only.
	Addrs []string
}

func (p Peer) check() error {
	if p.Name == "" || len(p.Addrs) == 0 {
		return errors.New("peer without name or address")
	}
	for _, s := range p.Addrs {
		if _, err := parseHost(s); err != nil {
			return fmt.Errorf("peer %s: %w", p.Name, err)
		}
	}
	return nil
}

// Config is what a Manager needs.
type Config struct {
	// Hello returns what this node says first on a connection: versions, node
	// id, process nonce (both never changing), kernel, groups with their
	// state of the moment. It is called by goroutines of the manager, must not
	// block and must not be answered with something that changes later.
	Hello func() *wire.Hello
	// Keys are the shared keys.
	Keys channel.Keys
	// Peers may be changed by SetPeers.
	Peers []Peer
	// Listeners are where peers connect to; the manager closes them.
	Listeners []net.Listener
	// Dial opens connections; nil uses TCP.
	Dial channel.DialFunc
	// Resolve looks up names; nil asks the system.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Found is told of an address that is no peer's and from which somebody connected
	// who holds a key. The connection is closed; SetPeers may add a peer before the
	// next attempt. It must not block. nil: only peers may connect at all.
	Found func(netip.Addr)
	// QueueLimit bounds the bytes waiting for each peer; 0 means 8 MiB.
	QueueLimit int
	Log        *slog.Logger
}

// Manager looks after all peers. Its methods may be called by any goroutine.
type Manager struct {
	cfg      Config
	events   chan Event
	listener *channel.Listener
	closed   closings

	mu     sync.Mutex
	run    context.Context // nil before Run
	tasks  sync.WaitGroup
	owners []*owner
	peers  []Peer
	keys   channel.Keys
	addrs  map[*owner][]netip.AddrPort
	nodes  map[wire.NodeID]*owner
}

// New checks the configuration and returns a Manager that does nothing before
// Run.
func New(cfg Config) (*Manager, error) {
	if cfg.Dial == nil {
		var d net.Dialer
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return d.DialContext(ctx,
				"tcp", address)
		}
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if cfg.QueueLimit == 0 {
		cfg.QueueLimit = 8 << 20
	}
	h := cfg.Hello()
	if h.Node.IsZero() || h.Min == 0 || h.Max < h.Min {
		return nil, errors.New("hello lacks node id or versions")
	}
	if err := checkPeers(cfg.Peers); err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: cfg, events: make(chan Event), peers: cfg.Peers, keys: cfg.Keys,
		addrs: map[*owner][]netip.AddrPort{}, nodes: map[wire.NodeID]*owner{},
	}
	allow := []netip.Addr{}
	if cfg.Found != nil {
		allow = nil // everybody may show that it holds a key
	}
	m.listener = channel.NewListener(channel.ListenConfig{Keys: cfg.Keys, Allow: allow, Log: cfg.Log})
	return m, nil
}

func checkPeers(ps []Peer) error {
	names := map[string]bool{}
	for _, p := range ps {
		if err := p.check(); err != nil {
			return err
		}
		if names[p.Name] {
			return fmt.Errorf("peer %s is configured twice", p.Name)
		}
		names[p.Name] = true
	}
	return nil
}

// Events returns the channel on which all sessions report. It is closed when
// Run has ended. Whoever takes from it slowly slows the peers down.
func (m *Manager) Events() <-chan Event { return m.events }

// Counters tells how connections to the listeners fared.
func (m *Manager) Counters() *channel.Counters { return &m.listener.Counters }

// Run connects to the peers and serves the listeners until ctx ends; then it
// says Bye to all and returns after at most about a second. An error of a
// listener is returned, but does not end Run before ctx does: the peers can
// still be dialled. Events of the end need not be taken.
func (m *Manager) Run(ctx context.Context) error {
	defer close(m.events)
	m.mu.Lock()
	m.run = ctx
	m.startLocked(m.peers)
	m.mu.Unlock()

	errs := make(chan error, len(m.cfg.Listeners))
	for _, nl := range m.cfg.Listeners {
		go func() {
			err := m.listener.Serve(ctx, nl, m.accepted)
			if err != nil {
				err = fmt.Errorf("listen on %s: %w", nl.Addr(), err)
				m.cfg.Log.Error("a listener ended", "err", err)
			}
			errs <- err
		}()
	}
	<-ctx.Done()
	var err error
	for range m.cfg.Listeners {
		err = errors.Join(err, <-errs)
	}
	m.tasks.Wait()
	return err
}

// startLocked starts owners for peers that have none. Needs mu.
func (m *Manager) startLocked(ps []Peer) {
	for _, p := range ps {
		if slices.ContainsFunc(m.owners, func(o *owner) bool { return o.name == p.Name }) {
			continue
		}
		o := newOwner(m, p)
		m.owners = append(m.owners, o)
		m.tasks.Go(func() {
			o.run(m.run)
			m.reachable(o, nil)
		})
	}
}

// accepted gives a connection to the peer whose address it comes from.
func (m *Manager) accepted(c *channel.Conn) {
	from := c.Remote().Addr()
	m.mu.Lock()
	var to *owner
	for _, o := range m.owners { // in the order of the configuration
		if slices.ContainsFunc(m.addrs[o], func(a netip.AddrPort) bool { return a.Addr().WithZone("") == from }) {
			to = o
			break
		}
	}
	m.mu.Unlock()
	if to == nil {
		_ = c.Close()
		if m.cfg.Found != nil {
			m.cfg.Found(from)
		}
		return
	}
	to.post(inAccepted{c})
}

// reachable notes the addresses of a peer.
func (m *Manager) reachable(o *owner, addrs []netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.addrs[o] = addrs; addrs == nil {
		delete(m.addrs, o)
	}
	if m.cfg.Found != nil {
		return
	}
	allow := []netip.Addr{} // not nil, which would let everybody try
	for _, list := range m.addrs {
		for _, a := range list {
			allow = append(allow, a.Addr())
		}
	}
	m.listener.SetAllow(allow)
}

// claim registers the node id of a peer and returns the name of another that
// has it.
func (m *Manager) claim(id wire.NodeID, o *owner) (taken string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.nodes[id]; other != nil && other != o {
		return other.name
	}
	m.nodes[id] = o
	return ""
}

func (m *Manager) release(id wire.NodeID, o *owner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes[id] == o {
		delete(m.nodes, id)
	}
}

func (m *Manager) currentKeys() channel.Keys {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys
}

// each hands an input to all peers.
func (m *Manager) each(ev event) {
	m.mu.Lock()
	owners := slices.Clone(m.owners)
	if m.run == nil {
		owners = nil
	}
	m.mu.Unlock()
	for _, o := range owners {
		o.post(ev)
	}
}

// Kick tries peers without a session at once, as after a change of role.
func (m *Manager) Kick() { m.each(evKick{}) }

// SetKeys replaces the shared keys. Connections made under a key that is no
// longer among them are replaced while their sessions go on; where that does
// not succeed for 30 s the session ends.
func (m *Manager) SetKeys(ks channel.Keys) {
	m.mu.Lock()
	m.keys = ks
	m.mu.Unlock()
	m.listener.SetKeys(ks)
	m.each(inKeys{})
}

// SetPeers replaces the peers. Sessions with peers whose name stays go on, with
// new addresses for their next connection; the others end.
func (m *Manager) SetPeers(ps []Peer) error {
	if err := checkPeers(ps); err != nil {
		return err
	}
	m.mu.Lock()
	m.peers = ps
	if m.run == nil || m.run.Err() != nil {
		m.mu.Unlock()
		return nil
	}
	type note struct {
		o  *owner
		ev event
	}
	var notes []note
	m.owners = slices.DeleteFunc(m.owners, func(o *owner) bool {
		i := slices.IndexFunc(ps, func(p Peer) bool { return p.Name == o.name })
		if i < 0 {
			notes = append(notes, note{o, inQuit{evClose{wire.ByeStranger, "the peer is no longer configured"}}})
			return true
		}
		notes = append(notes, note{o, inTargets{t: newTargets(ps[i].Addrs)}})
		return false
	})
	m.startLocked(ps)
	m.mu.Unlock()
	for _, n := range notes {
		n.o.post(n.ev)
	}
	return nil
}

// Status is the state of one peer.
type Status struct {
	Name  string
	Addrs []netip.AddrPort
	// Node is the peer's id, also of the last session; zero before the first.
	Node wire.NodeID
	// Session is nil while there is none; Trouble says why.
	Session *Session
	Trouble Reason
	// In and Out are the bytes of all frames since the peer was configured.
	In, Out uint64
}

// Status returns the state of all peers in the order of the configuration.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Status
	for _, p := range m.peers {
		st := Status{Name: p.Name}
		for _, o := range m.owners {
			if o.name == p.Name {
				st.Addrs = m.addrs[o]
				st.In, st.Out = o.read.Load(), o.written.Load()
				o.shared.mu.Lock()
				st.Node, st.Trouble = o.shared.known, o.shared.trouble
				if o.shared.told {
					st.Session = o.shared.session
				}
				o.shared.mu.Unlock()
			}
		}
		out = append(out, st)
	}
	return out
}
