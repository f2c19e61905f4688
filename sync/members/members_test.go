package members

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"sasyncd/sync/wire"
)

// cluster joins members by a map of who has a session with whom.
type cluster struct {
	t     *testing.T
	mu    sync.Mutex
	nodes map[wire.NodeID]*Members
	links map[[2]wire.NodeID]bool
	lines map[[2]wire.NodeID]chan []byte
	deaf  atomic.Bool  // payloads are lost
	host  atomic.Value // another host name for node 3
	roles map[wire.NodeID][]Role
}

func newCluster(t *testing.T) *cluster {
	return &cluster{t: t, nodes: make(map[wire.NodeID]*Members), links: make(map[[2]wire.NodeID]bool),
		lines: make(map[[2]wire.NodeID]chan []byte)}
}

// line carries payloads from a to b in the order of sending, as a session
// does. The caller holds mu.
func (c *cluster) line(a, b wire.NodeID) chan []byte {
	k := [2]wire.NodeID{a, b}
	if c.lines[k] == nil {
		ch, x := make(chan []byte, 1024), c.nodes[b]
		c.lines[k] = ch
		go func() {
			for p := range ch {
				x.Receive(a, p)
			}
		}()
		c.t.Cleanup(func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			close(ch)
			delete(c.links, k)
		})
	}
	return c.lines[k]
}

func id(n byte) (x wire.NodeID) {
	for i := range x {
		x[i] = n * byte(i+3)
	}
	return x
}

func (c *cluster) add(n byte) *Members {
	c.t.Helper()
	me := id(n)
	m, err := New(Config{Node: me, Log: slog.New(slog.DiscardHandler),
		Roles: func() []Role { return c.roles[me] },
		Claim: func() Claim {
			host := fmt.Sprintf("gw%d", n)
			if x, ok := c.host.Load().(string); ok && n == 3 {
				host = x
			}
			return Claim{Host: host, Addrs: []string{fmt.Sprintf("10.9.0.%d:500", n)}}
		},
		Send: func(to wire.NodeID, b []byte) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.links[[2]wire.NodeID{me, to}] {
				return false
			}
			if c.deaf.Load() {
				return true
			}
			select {
			case c.line(me, to) <- append([]byte(nil), b...):
				return true
			default:
				return false
			}
		}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.nodes[me] = m
	c.mu.Unlock()
	c.t.Cleanup(func() { _ = m.Close() })
	return m
}

func (c *cluster) link(a, b byte, up bool) {
	c.mu.Lock()
	c.links[[2]wire.NodeID{id(a), id(b)}], c.links[[2]wire.NodeID{id(b), id(a)}] = up, up
	x, y := c.nodes[id(a)], c.nodes[id(b)]
	c.mu.Unlock()
	x.Neighbour(id(b), up)
	y.Neighbour(id(a), up)
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func knows(m *Members, n byte) *Member {
	for _, x := range m.Known() {
		if x.Node == id(n) {
			return &x
		}
	}
	return nil
}

// TestThirdMemberIsFoundThroughTheOther: 1 and 3 have sessions with 2 only.
func TestThirdMemberIsFoundThroughTheOther(t *testing.T) {
	c := newCluster(t)
	one, two, three := c.add(1), c.add(2), c.add(3)
	c.link(1, 2, true)
	c.link(2, 3, true)
	eventually(t, "1 knows 3 and what it says of itself", func() bool {
		x := knows(one, 3)
		return x != nil && x.Alive && !x.Direct && x.Claim.Host == "gw3" && len(x.Claim.Addrs) == 1
	})
	eventually(t, "3 knows 1", func() bool { return knows(three, 1) != nil })
	if x := knows(two, 1); x == nil || !x.Direct {
		t.Errorf("2 about 1: %+v", x)
	}
	c.host.Store("renamed")
	eventually(t, "1 hears that 3 changed its claim", func() bool {
		x := knows(one, 3)
		return x != nil &&
			x.Claim.Host == "renamed"
	})
	// It stays alive: probes reach it through 2. Then its only link goes.
	c.link(2, 3, false)
	eventually(t, "3 is given up", func() bool { x := knows(one, 3); return x == nil || !x.Alive })
	c.link(2, 3, true)
	eventually(t, "3 is back", func() bool { x := knows(one, 3); return x != nil && x.Alive })
}

// TestLostExchangeIsRepeated: what two neighbours say when their session begins
// is lost, and no session begins again.
func TestLostExchangeIsRepeated(t *testing.T) {
	c := newCluster(t)
	one, two := c.add(1), c.add(2)
	c.deaf.Store(true)
	c.link(1, 2, true)
	eventually(t, "both have begun to join", func() bool { return len(one.join) == 0 && len(two.join) == 0 })
	eventually(t, "both have streams that nobody answers", func() bool { return streams(one) > 0 && streams(two) > 0 })
	eventually(t, "both have given up", func() bool { return streams(one) == 0 && streams(two) == 0 })
	c.deaf.Store(false)
	eventually(t, "both know each other", func() bool {
		x, y := knows(one, 2), knows(two, 1)
		return x != nil && x.Alive && y != nil && y.Alive
	})
}

func streams(m *Members) int {
	m.tr.mu.Lock()
	defer m.tr.mu.Unlock()
	return len(m.tr.open)
}

// TestFramesOfStrangersAreHarmless: whatever a neighbour sends.
func FuzzReceive(f *testing.F) {
	f.Add(frame(framePacket, 1, id(1), id(2), 0, []byte("x")))
	f.Add(frame(frameData, 1, id(1), id(2), 7, []byte{0, 1}))
	f.Add(frame(frameOpen, 1, id(3), id(2), 7, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		sent := 0
		tr := newTransport(id(1), func(wire.NodeID, []byte) bool { sent++; return true })
		tr.setNeighbour(id(2), true)
		tr.setNeighbour(id(3), true)
		tr.receive(id(2), b)
		if sent > 1 {
			t.Errorf("one frame caused %d", sent)
		}
		_ = tr.Shutdown()
	})
}

// FuzzClaim: whatever a member says of itself.
func FuzzClaim(f *testing.F) {
	f.Add(id(2).String(), []byte(`{"host":"gw2","addrs":["10.9.0.2:500"],"roles":{"outside":"MASTER"}}`))
	f.Add("x", []byte("{"))
	f.Add(id(2).String(), []byte(`{"host":"gw\u001b[2J","addrs":["\u009b31m"],"roles":{"\u202e":"\u0007"}}`))
	f.Fuzz(func(t *testing.T, name string, meta []byte) {
		m := idle(Config{Node: id(1)})
		n := &memberlist.Node{Name: name, Meta: meta}
		if (delegate{m}).NotifyAlive(n) == nil {
			(delegate{m}).NotifyJoin(n)
		}
		for _, x := range m.Known() {
			if !x.Claim.acceptable() {
				t.Errorf("%+v is kept", x.Claim)
			}
			if x.Node == id(1) || x.Node.String() != strings.ToLower(name) {
				t.Errorf("%q is known as %s", name, x.Node)
			}
		}
	})
}
