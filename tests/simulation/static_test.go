package simulation

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/kernel/kerneltest"
	"sasyncd/keying"
	"sasyncd/keying/ipsecconf"
	"sasyncd/sync/engine"
	"sasyncd/sync/sadb"
)

// static is the part of a node that has `control static`: a file, and a disk.
type static struct {
	mu     sync.Mutex
	text   string
	bounds map[string]uint64
	first  uint64
	runner *keying.Runner
}

func (s *static) Bound(id string) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bounds[id], nil
}

func (s *static) Raise(b map[string]uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, v := range b {
		s.bounds[id] = max(s.bounds[id], v)
	}
	return nil
}

func (s *static) load() (ipsecconf.Set, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := ipsecconf.Load("ipsec.conf", func(string) ([]byte, error) { return []byte(s.text), nil })
	return r.Set, err
}

func (s *static) write(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

// start starts what belongs to one life of sasyncd.
func (s *static) start(ctx context.Context, n *node) engine.Keying {
	d := keying.NewStatic(keying.StaticConfig{File: "ipsec.conf", Load: s.load, Tables: n.kernel.Other(), Numbers: s,
		Start: s.first, Log: n.log})
	s.runner = keying.NewRunner(groupName, d, n.log)
	go func() { _ = s.runner.Run(ctx) }()
	go func() { _ = d.Keep(ctx) }()
	return staticKeying{s.runner}
}

type staticKeying struct{ r *keying.Runner }

func (k staticKeying) Passive(_ string, term uint64, why string, settled bool, vips []netip.Addr, done func(error)) {
	k.r.Passive(keying.PassiveOrder{Term: term, Reason: why, Settled: settled, VIPs: vips}, done)
}
func (k staticKeying) Active(_ string, term uint64, why string, vips []netip.Addr) {
	k.r.Active(keying.Plan{Term: term, Reason: why, VIPs: vips})
}
func (k staticKeying) Status(string) engine.KeyingStatus { return engine.KeyingStatus{} }

// staticRule is a tunnel with keys of its own, which never change.
func staticRule(i int) string {
	remote := fmt.Sprintf("203.0.113.%d", i+1)
	key := func(b int) string { return "0x" + strings.Repeat(fmt.Sprintf("%02x", b+i), 32) }
	return fmt.Sprintf("flow from 10.1.0.0/24 to 10.%d.0.0/16 peer %s\nesp from %s to %s spi 0x%x:0x%x authkey %s:%s "+
		"enckey %s:%s\n",
		10+i, remote, vips[0], remote, 0x1000+i, 0x2000+i, key(0x10), key(0x30), key(0x50), key(0x70))
}

// TestStaticKeys plays histories of gateways with static keys: hand-overs, cuts of
// power, changes of the file, and cold starts of both, in which the same keys are
// used again. No number is sent twice and none is refused.
func TestStaticKeys(t *testing.T) {
	for i := range 4 {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, seed, 2, (*sim).staticKeys) })
	}
}

func (s *sim) staticKeys() {
	text := staticRule(0) + staticRule(1)
	s.pass(time.Second)
	for _, n := range s.nodes {
		n.killSasyncd()
		n.static = &static{text: text, bounds: make(map[string]uint64), first: uint64(n.i+1) << 20}
		n.startSasyncd()
	}
	s.expect(text)
	s.pass(15 * time.Second)
	for range 6 {
		if s.t.Failed() {
			return
		}
		m := s.master()
		if m == nil {
			s.t.Errorf("seed %d: there is no single master", s.seed)
			return
		}
		other := s.nodes[1-m.i]
		switch s.rng.IntN(5) {
		case 0:
			s.note("hand-over")
			m.Resign("", "operator")
		case 1:
			s.note("node %d loses its power for a while", m.i)
			m.powerCut()
			s.pass(8 * time.Second)
			m.startCarpd()
			m.startSasyncd()
		case 2:
			s.note("sasyncd of node %d is restarted", m.i)
			m.killSasyncd()
			s.pass(2 * time.Second)
			m.startSasyncd()
		case 3:
			if strings.Contains(text, staticRule(2)) {
				text = strings.Replace(text, staticRule(2), "", 1)
			} else {
				text += staticRule(2)
			}
			s.note("another file")
			s.expect(text)
			for _, n := range s.nodes {
				n.static.write(text)
				n.static.runner.Repeat()
			}
		case 4:
			s.note("both lose their power, node %d is back first", other.i)
			for _, n := range s.nodes {
				n.powerCut()
				n.reboot()
			}
			other.startCarpd()
			other.startSasyncd()
			s.pass(20 * time.Second)
			if s.master() != other {
				s.t.Errorf("seed %d: node %d is alone and not master", s.seed, other.i)
			}
			m.startCarpd()
			m.startSasyncd()
		}
		before := s.sent
		s.pass(15 * time.Second)
		if s.sent == before {
			s.t.Errorf("seed %d: nothing was sent", s.seed)
		}
	}
	s.quiet()
}

// expect makes the file's tunnels those of the traffic. The remote ends stay what
// they are through everything, and look at sequence numbers.
func (s *sim) expect(text string) {
	r, err := ipsecconf.Load("ipsec.conf", func(string) ([]byte, error) { return []byte(text), nil })
	if err != nil {
		s.t.Fatal(err)
	}
	clear(s.tunnels)
	for i, e := range r.SAs {
		if e.SA.Src != vips[0] {
			continue
		}
		s.tunnels[i] = &tunnel{out: e.SA, in: r.SAs[i+1].SA, far: e.SA.Key, since: time.Now()}
		if s.remote[e.SA.Key] != nil {
			continue
		}
		far := kerneltest.New(time.Now)
		sa := *e.SA
		sa.Window = 32
		for _, err := range far.Apply(s.t.Context(), []sadb.Op{{Kind: sadb.OpAddSA, SA: &sa}}) {
			if err != nil {
				s.t.Fatal(err)
			}
		}
		s.remote[e.SA.Key] = far
	}
}

// reboot empties the tables of a node that is without power.
func (n *node) reboot() {
	n.kernel.FlushSA(0)
	snap, err := n.kernel.Dump(n.s.t.Context())
	if err != nil {
		n.s.t.Fatal(err)
	}
	var ops []sadb.Op
	for _, p := range slices.Backward(snap.Policies) {
		ops = append(ops, sadb.Op{Kind: sadb.OpDeletePolicy, Policy: p})
	}
	for _, err := range n.kernel.Apply(n.s.t.Context(), ops) {
		if err != nil {
			n.s.t.Fatal(err)
		}
	}
}
