package members

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"sasyncd/sync/wire"
)

// Claim is what a member says about itself. Others take it as a hint: whoever holds
// the key can say what it likes.
type Claim struct {
	Host  string            `json:"host"`            // host name
	Addrs []string          `json:"addrs,omitempty"` // where it listens for peers, host:port
	Roles map[string]string `json:"roles,omitempty"` // role by group
	// Words is the version of the words that it takes (see Sighting); 0 for none.
	// New sets it.
	Words int `json:"words,omitempty"`
}

// acceptable reports whether all of it is short, and can be shown to an operator.
func (c Claim) acceptable() bool {
	if len(c.Roles) > maxRoles || len(c.Addrs) > maxAddrs {
		return false
	}
	for group, role := range c.Roles {
		if !tidy(group) || !tidy(role) {
			return false
		}
	}
	return tidy(c.Host) && !slices.ContainsFunc(c.Addrs, func(a string) bool { return !tidy(a) })
}

// maxClaim is what memberlist carries about a member.
const maxClaim = memberlist.MetaMaxSize

// maxMembers bounds whom gossip can make this node remember, of whatever a member
// tells. A group is a few gateways.
const maxMembers = 64

// Member is a member as gossip knows it.
type Member struct {
	Node  wire.NodeID
	Alive bool
	// Direct: there is a session with it.
	Direct bool
	Claim  Claim
	// Seen is what it said last by way of another member; its At is zero when it
	// never has.
	Seen Sighting
}

// Config is what Members needs.
type Config struct {
	Node wire.NodeID
	// Send gives a payload to the session with a neighbour; false if there is
	// none or it is full. It must not block.
	Send func(to wire.NodeID, payload []byte) bool
	// Claim is asked every few seconds; a change is told to the others.
	Claim func() Claim
	// Roles are what this node is in its groups. It is asked every second, for the
	// members to which there is no session; nil tells them nothing.
	Roles func() []Role
	Log   *slog.Logger
}

// Members follows the cluster. Its methods are safe for concurrent use and do
// not block.
type Members struct {
	cfg  Config
	tr   *transport
	list *memberlist.Memberlist
	join chan wire.NodeID
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	known map[wire.NodeID]Member
	seen  map[wire.NodeID]Sighting // of those in known
	// forgotten is how many were dropped from known for others.
	forgotten int
	now       func() time.Time
}

// idle returns a Members that knows nobody and does nothing.
func idle(cfg Config) *Members {
	m := &Members{cfg: cfg, tr: newTransport(cfg.Node, cfg.Send), join: make(chan wire.NodeID, 64),
		stop:  make(chan struct{}),
		known: make(map[wire.NodeID]Member), seen: make(map[wire.NodeID]Sighting), now: time.Now}
	m.tr.heard = m.heard
	return m
}

// New starts following. Close ends it.
func New(cfg Config) (*Members, error) {
	m := idle(cfg)
	c := memberlist.DefaultLANConfig()
	c.Name = cfg.Node.String()
	c.Transport = m.tr
	c.Delegate, c.Events, c.Alive = delegate{m}, delegate{m}, delegate{m}
	c.LogOutput = logWriter{cfg.Log}
	c.EnableCompression = false // a message of a session is not large
	c.DisableTcpPings = true    // packets and streams go the same way
	c.ProbeInterval, c.ProbeTimeout = time.Second, 500*time.Millisecond
	c.GossipInterval = 500 * time.Millisecond
	c.PushPullInterval = 15 * time.Second
	c.TCPTimeout = joinWithin
	c.DeadNodeReclaimTime = time.Second
	list, err := memberlist.Create(c)
	if err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	m.list = list
	m.wg.Go(m.joiner)
	m.wg.Go(m.speaker)
	return m, nil
}

// Close ends the following. It says nothing to the others.
func (m *Members) Close() error {
	close(m.stop)
	err := m.list.Shutdown()
	m.wg.Wait()
	if err != nil {
		return fmt.Errorf("end gossip: %w", err)
	}
	return nil
}

// Neighbour notes that a session began or ended.
func (m *Members) Neighbour(id wire.NodeID, up bool) {
	m.tr.setNeighbour(id, up)
	if !up {
		return
	}
	select {
	case m.join <- id:
	default: // the joiner looks for neighbours that are not known yet
	}
}

// Receive takes the payload of a Gossip message of the neighbour via.
func (m *Members) Receive(via wire.NodeID, payload []byte) { m.tr.receive(via, payload) }

const (
	// lookEvery is how often a changed claim is looked for, and neighbours that
	// are not members yet.
	lookEvery = 5 * time.Second
	// joinWithin is how long an exchange of states may take. Joins are made one
	// after the other, so one that is not answered holds up the others.
	joinWithin = 3 * time.Second
)

// joiner exchanges states with new neighbours, one after the other, and tells
// when the claim has changed. An exchange fails while the other side does not
// count its end of the session yet, or when the session is too busy for
// gossip; nobody else would repeat it.
func (m *Members) joiner() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told := delegate{m}.NodeMeta(maxClaim)
	for {
		select {
		case <-m.stop:
			return
		case id := <-m.join:
			m.exchange(id)
		case <-tick.C:
			for _, id := range m.strangers() {
				m.exchange(id)
			}
			now := delegate{m}.NodeMeta(maxClaim)
			if bytes.Equal(now, told) {
				continue
			}
			told = now
			if err := m.list.UpdateNode(0); err != nil {
				m.cfg.Log.Debug("telling a changed claim failed", "err", err)
			}
		}
	}
}

func (m *Members) exchange(id wire.NodeID) {
	if _, err := m.list.Join([]string{addrOf(id).String()}); err != nil {
		m.cfg.Log.Debug("joining by a neighbour failed", "node", id.String(), "err", err)
	}
}

// strangers are the neighbours that are not known as alive.
func (m *Members) strangers() []wire.NodeID {
	m.tr.mu.Lock()
	near := make([]wire.NodeID, 0, len(m.tr.neighbours))
	for id := range m.tr.neighbours {
		near = append(near, id)
	}
	m.tr.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(near, func(id wire.NodeID) bool { return m.known[id].Alive })
}

// Known returns all members but this one, by node id.
func (m *Members) Known() []Member {
	m.mu.Lock()
	out := make([]Member, 0, len(m.known))
	for id, x := range m.known {
		x.Seen = m.seen[id]
		out = append(out, x)
	}
	m.mu.Unlock()
	for i := range out {
		m.tr.mu.Lock()
		out[i].Direct = m.tr.neighbours[out[i].Node]
		m.tr.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b Member) int { return bytes.Compare(a.Node[:], b.Node[:]) })
	return out
}

// note keeps what memberlist tells of a member: its own list may only be read
// while it holds its lock, as it does when it calls this.
func (m *Members) note(n *memberlist.Node, alive bool) {
	b, err := hex.DecodeString(n.Name)
	if err != nil || len(b) != len(wire.NodeID{}) || wire.NodeID(b) == m.cfg.Node {
		return
	}
	x := Member{Node: wire.NodeID(b), Alive: alive}
	_ = json.Unmarshal(n.Meta, &x.Claim) // a member of another version may say less
	if !x.Claim.acceptable() {
		m.tr.refused.Add(1)
		x.Claim = Claim{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[x.Node] = x
}

// Refused is how many frames, and members told of, were not taken: malformed,
// from or to whom nobody knows, too many, or faster than they were read.
func (m *Members) Refused() uint64 { return m.tr.refused.Load() }

var errMember = errors.New("not a member that there can be, or one too many")

// NotifyAlive implements memberlist.AliveDelegate: it refuses members.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	b, err := hex.DecodeString(n.Name)
	if err != nil || len(b) != len(wire.NodeID{}) {
		d.m.tr.refused.Add(1)
		return errMember
	}
	id := wire.NodeID(b)
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if _, ok := d.m.known[id]; ok || id == d.m.cfg.Node || len(d.m.known) < maxMembers {
		return nil
	}
	for gone, x := range d.m.known {
		if !x.Alive {
			delete(d.m.known, gone)
			delete(d.m.seen, gone)
			d.m.forgotten++
			return nil
		}
	}
	d.m.tr.refused.Add(1)
	return errMember
}

// NotifyJoin, NotifyUpdate and NotifyLeave implement memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node)   { d.m.note(n, true) }
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.m.note(n, true) }
func (d delegate) NotifyLeave(n *memberlist.Node)  { d.m.note(n, false) }

// delegate carries the claim; there is no payload.
type delegate struct{ m *Members }

// NodeMeta implements memberlist.Delegate. A claim too long for gossip loses its
// roles, and if need be all but the host name.
func (d delegate) NodeMeta(limit int) []byte {
	c := d.m.cfg.Claim()
	c.Words = wordVersion
	b, err := json.Marshal(c)
	if err == nil && len(b) > min(limit, maxClaim) {
		c.Roles = nil // the words have them
		b, err = json.Marshal(c)
	}
	if err != nil || len(b) > min(limit, maxClaim) {
		b, err = json.Marshal(Claim{Host: c.Host[:min(len(c.Host), 64)], Words: wordVersion})
	}
	if err != nil {
		return nil
	}
	return b
}

func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

// logWriter passes on what memberlist logs, at debug level: its complaints are
// about hints.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug("gossip", "text", string(bytes.TrimSpace(p)))
	return len(p), nil
}

var _ io.Writer = logWriter{}
