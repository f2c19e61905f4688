package keying

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/kernel/kerneltest"
	"sasyncd/keying/ipsecconf"
	"sasyncd/sync/sadb"
)

// The gateways' virtual address, the remote's, and one rule for both directions.
const (
	staticVIP  = "192.0.2.10"
	staticPeer = "203.0.113.7"
	key32      = "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	key32b     = "0xffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
	tunnelText = "esp from " + staticVIP + " to " + staticPeer + " spi 0x1000:0x1001 authkey " + key32 + ":" + key32b +
		" enckey " + key32 + ":" + key32b + "\n"
	flowText = "flow from 10.1.0.0/16 to 10.9.0.0/16 peer " + staticPeer + "\n"
)

// memory is a disk that survives a restart.
type memory struct {
	mu     sync.Mutex
	bounds map[string]uint64
	err    error // of every call
}

func (m *memory) Bound(id string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bounds[id], m.err
}

func (m *memory) Raise(b map[string]uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.bounds == nil {
		m.bounds = make(map[string]uint64)
	}
	for id, v := range b {
		m.bounds[id] = max(m.bounds[id], v)
	}
	return nil
}

// gateway is a machine with a file, a kernel and a disk.
type gateway struct {
	t      *testing.T
	text   string
	kernel *kerneltest.Kernel
	disk   *memory
	driver *Static
}

func newGateway(t *testing.T, text string, start uint64) *gateway {
	g := &gateway{t: t, text: text, kernel: kerneltest.New(time.Now), disk: &memory{}}
	g.boot(start)
	return g
}

// boot starts the machine anew: only its disk is as before.
func (g *gateway) boot(start uint64) {
	g.kernel = kerneltest.New(time.Now)
	g.restart(start)
}

// restart starts the program anew, and nothing else.
func (g *gateway) restart(start uint64) {
	g.driver = NewStatic(StaticConfig{File: "/etc/ipsec.conf", Tables: g.kernel, Numbers: g.disk, Start: start,
		Log: slog.New(slog.DiscardHandler),
		Load: func() (ipsecconf.Set, error) {
			r, err := ipsecconf.Load("/etc/ipsec.conf", func(string) ([]byte, error) { return []byte(g.text), nil })
			return r.Set, err
		}})
}

func (g *gateway) promote() error {
	return g.driver.Active(g.t.Context(), Plan{Term: 1, VIPs: []netip.Addr{netip.MustParseAddr(staticVIP)}}, nil)
}

func (g *gateway) mustPromote() {
	g.t.Helper()
	if err := g.promote(); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) dump() *sadb.Snapshot {
	g.t.Helper()
	s, err := g.kernel.Dump(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

// send sends n packets on the outbound SA and returns the first and last number.
func (g *gateway) send(spi uint32, n int) (first, last uint64) {
	g.t.Helper()
	for i := range n {
		seq, ok := g.kernel.Send(sadb.SAKey{Dst: netip.MustParseAddr(staticPeer), SPI: spi, Proto: sadb.ProtoESP}, 100)
		if !ok {
			g.t.Fatalf("packet %d is not sent on spi 0x%x", i, spi)
		}
		if last = seq; i == 0 {
			first = seq
		}
	}
	return first, last
}

func (g *gateway) changes() (n int) {
	for _, k := range []sadb.OpKind{sadb.OpAddSA, sadb.OpUpdateSA, sadb.OpDeleteSA, sadb.OpSetCounters,
		sadb.OpAddPolicy, sadb.OpUpdatePolicy, sadb.OpDeletePolicy} {
		n += g.kernel.Applied(k)
	}
	return n
}

// TestStaticLoadsOnce: what the file says is in the kernel after a promotion, and
// neither a second promotion nor a restart nor a reload touches it.
func TestStaticLoadsOnce(t *testing.T) {
	g := newGateway(t, tunnelText+flowText, 1<<20)
	g.mustPromote()
	s := g.dump()
	if len(s.SAs) != 2 || len(s.Policies) != 3 {
		t.Fatalf("%d SAs and %d policies, want 2 and 3", len(s.SAs), len(s.Policies))
	}
	_, last := g.send(0x1000, 10)
	n := g.changes()
	g.mustPromote()
	g.restart(1 << 20)
	g.mustPromote()
	if g.changes() != n {
		t.Errorf("%d changes by loading what is there", g.changes()-n)
	}
	if first, _ := g.send(0x1000, 1); first != last+1 {
		t.Errorf("the packet after %d has number %d", last, first)
	}
	for _, sa := range s.SAs {
		if !sa.Static() || sa.Window != 0 {
			t.Errorf("%s: static %v, window %d", sa.Key, sa.Static(), sa.Window)
		}
		if in := sa.Key.Dst == netip.MustParseAddr(staticVIP); in && sa.OSeq != 0 {
			t.Errorf("the inbound SA begins at %d", sa.OSeq)
		}
	}
}

// TestStaticByDifference: a reload adds and removes what the file has got and
// lost, and nothing else; foreign SAs and policies stay.
func TestStaticByDifference(t *testing.T) {
	g := newGateway(t, tunnelText+flowText, 1<<20)
	other := g.kernel.Other()
	foreign := &sadb.SA{Key: sadb.SAKey{Dst: netip.MustParseAddr("198.51.100.1"), SPI: 0x9000, Proto: sadb.ProtoESP},
		Src:  netip.MustParseAddr(staticVIP),
		Mode: sadb.ModeTunnel, Reqid: 1, Auth: &sadb.Algorithm{Name: "hmac(sha1)",
			Key: sadb.NewSecret(make([]byte, 20)), TruncBits: 96}}
	if err := errors.Join(other.Apply(t.Context(), []sadb.Op{{Kind: sadb.OpAddSA, SA: foreign}})...); err != nil {
		t.Fatal(err)
	}
	g.mustPromote()
	_, last := g.send(0x1000, 5)
	g.text += "esp from " + staticVIP + " to 203.0.113.8 spi 0x2000:0x2001 authkey " + key32b + ":" + key32 +
		" enckey " + key32b + ":" + key32 + "\n" +
		"flow from 10.1.0.0/16 to 10.8.0.0/16 peer 203.0.113.8\n"
	before := g.kernel.Applied(sadb.OpAddSA)
	g.mustPromote()
	if n := g.kernel.Applied(sadb.OpAddSA) - before; n != 2 || g.kernel.Applied(sadb.OpDeleteSA) != 0 {
		t.Errorf("%d SAs added and %d deleted for one more rule", n, g.kernel.Applied(sadb.OpDeleteSA))
	}
	if s := g.dump(); len(s.SAs) != 5 || len(s.Policies) != 6 {
		t.Errorf("%d SAs and %d policies, want 5 and 6", len(s.SAs), len(s.Policies))
	}
	if first, _ := g.send(0x1000, 1); first != last+1 {
		t.Errorf("the packet after %d has number %d", last, first)
	}
	g.text = tunnelText
	g.mustPromote()
	if s := g.dump(); len(s.SAs) != 3 || len(s.Policies) != 0 {
		t.Errorf("%d SAs and %d policies, want 3 and none", len(s.SAs), len(s.Policies))
	}
	g.text = "" // nothing any more
	g.mustPromote()
	if s := g.dump(); len(s.SAs) != 1 || s.SAs[0].Key != foreign.Key {
		t.Errorf("left are %d SAs, want the foreign one", len(s.SAs))
	}
}

// TestStaticNumbersNeverComeTwice sends under one key through everything that
// makes an SA anew, and looks at every number.
func TestStaticNumbersNeverComeTwice(t *testing.T) {
	g := newGateway(t, tunnelText+flowText, 1<<20)
	var highest uint64
	send := func(what string, spi uint32, n int) {
		t.Helper()
		first, last := g.send(spi, n)
		if first <= highest {
			t.Fatalf("after %s: number %d, when %d was sent before", what, first, highest)
		}
		highest = last
	}
	keepOnce := func() {
		t.Helper()
		if err := g.driver.keepOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	g.mustPromote()
	send("the first start", 0x1000, 100)
	g.boot(1 << 20)
	g.mustPromote()
	send("a cold start at once", 0x1000, 100)
	keepOnce()
	send("looking at the numbers", 0x1000, 100)
	g.boot(1 << 20)
	g.mustPromote()
	send("another cold start", 0x1000, 100)
	without := g.text
	g.text = ""
	g.mustPromote()
	g.text = without
	g.mustPromote()
	send("removing the rule and writing it again", 0x1000, 100)
	g.text = strings.ReplaceAll(without, "0x1000", "0x3000")
	g.mustPromote()
	send("a new spi for the same keys", 0x3000, 100)
	g.text = strings.ReplaceAll(without, "esp from", "esp tunnel from")
	g.text = strings.Replace(g.text, "auth", "auth hmac-sha2-256 auth", 1)
	g.mustPromote()
	send("the old spi again", 0x1000, 100)
	// A standby has what was replicated, ahead of the master, and never sent.
	b := newGateway(t, g.text, 5<<20)
	for _, sa := range g.dump().SAs {
		c := *sa
		if c.OSeq > 0 {
			c.OSeq += 1 << 20
		}
		if err := errors.Join(b.kernel.Apply(t.Context(), []sadb.Op{{Kind: sadb.OpAddSA, SA: &c}})...); err != nil {
			t.Fatal(err)
		}
	}
	g = b
	keepOnce()
	g.boot(5 << 20)
	g.mustPromote()
	send("a cold start of what was the standby", 0x1000, 100)
}

// TestStaticRefusesWhatIsUsedUp: an SA that would repeat numbers is not made.
func TestStaticRefusesWhatIsUsedUp(t *testing.T) {
	g := newGateway(t, tunnelText+flowText, 1<<20)
	g.mustPromote()
	for id := range g.disk.bounds {
		g.disk.bounds[id] = sadb.MaxLegacy
	}
	g.boot(1 << 20)
	if err := g.promote(); err == nil || !strings.Contains(err.Error(), "used up") {
		t.Errorf("keys that are used up: %v", err)
	}
	for _, sa := range g.dump().SAs {
		if sa.Src == netip.MustParseAddr(staticVIP) {
			t.Errorf("%s was made", sa.Key)
		}
	}
	g.disk.err = errors.New("broken disk")
	g.boot(1 << 20)
	if err := g.promote(); err == nil || !strings.Contains(err.Error(), "broken disk") || len(g.dump().SAs) > 1 {
		t.Errorf("a disk that does not remember: %v, %d SAs", err, len(g.dump().SAs))
	}
}

// TestStaticTriesAgainForFree: what the kernel does not take costs no numbers,
// however often it is tried.
func TestStaticTriesAgainForFree(t *testing.T) {
	g := newGateway(t, tunnelText+flowText, 1<<20)
	g.kernel.SetFault(func(op sadb.Op) error {
		if op.Kind == sadb.OpAddSA {
			return errors.New("no such algorithm")
		}
		return nil
	})
	var out Outcome
	for range 50 {
		err := g.driver.Active(t.Context(), Plan{VIPs: []netip.Addr{netip.MustParseAddr(staticVIP)}},
			func(o Outcome) { out = o })
		if err == nil || !strings.Contains(err.Error(), "no such algorithm") {
			t.Fatalf("got %v", err)
		}
	}
	if want := (Outcome{Wanted: 2, Failed: 2}); out != want {
		t.Errorf("outcome is %+v, want %+v", out, want)
	}
	g.kernel.SetFault(nil)
	g.mustPromote()
	if first, _ := g.send(0x1000, 1); first != 1<<20+1 {
		t.Errorf("the first number is %d, want %d", first, 1<<20+1)
	}
}

// TestStaticOnAStandby: a standby loads no SAs, keeps what was replicated, and has
// policies from the start.
func TestStaticOnAStandby(t *testing.T) {
	g := newGateway(t, tunnelText+flowText+"flow from 10.1.0.53 to any type bypass\nflow out from 10.1.0.54 to any "+
		"type deny\n", 1<<20)
	vips := []netip.Addr{} // not told yet
	hush := func(settled bool) {
		t.Helper()
		if err := g.driver.Passive(t.Context(), PassiveOrder{Settled: settled, VIPs: vips}); err != nil {
			t.Fatal(err)
		}
	}
	hush(false)
	if g.changes() != 0 {
		t.Error("something was loaded while the virtual addresses are here")
	}
	hush(true)
	// The bypass in, out and forward, and the deny out.
	if s := g.dump(); len(s.SAs) != 0 || len(s.Policies) != 4 {
		t.Errorf("%d SAs and %d policies on a standby, want none and 4", len(s.SAs), len(s.Policies))
	}
	// From here on nothing would leave in plaintext, should it become MASTER.
	vips = append(vips, netip.MustParseAddr(staticVIP))
	hush(true)
	if s := g.dump(); len(s.SAs) != 0 || len(s.Policies) != 7 {
		t.Errorf("%d SAs and %d policies on a standby that is alone, want none and 7", len(s.SAs), len(s.Policies))
	}
	g.mustPromote()
	n := g.changes()
	hush(true)
	if g.changes() != n {
		t.Errorf("%d changes by becoming a standby", g.changes()-n)
	}
	g.text = tunnelText + flowText
	hush(true)
	if s := g.dump(); len(s.SAs) != 2 || len(s.Policies) != 3 {
		t.Errorf("%d SAs and %d policies after the bare flows went, want 2 and 3", len(s.SAs), len(s.Policies))
	}
}

// TestStaticLeavesOutWhatIsNotTheGroups and says so.
func TestStaticLeavesOutWhatIsNotTheGroups(t *testing.T) {
	g := newGateway(t, strings.ReplaceAll(tunnelText+flowText, staticVIP, "192.0.2.99"), 1<<20)
	g.mustPromote()
	if s := g.dump(); len(s.SAs)+len(s.Policies) != 0 {
		t.Errorf("%d SAs and %d policies that no standby would get", len(s.SAs), len(s.Policies))
	}
	info, err := g.driver.Probe(context.Background(), nil)
	if err != nil || len(info.Lint) != 1 || !strings.Contains(info.Lint[0].What, "/etc/ipsec.conf:1:1") {
		t.Errorf("probe says %+v, %v", info, err)
	}
	g.text = "nonsense\n"
	if info, _ := g.driver.Probe(context.Background(), nil); len(info.Lint) != 2 || !strings.Contains(info.Lint[1].What,
		"nonsense") {
		t.Errorf("probe of a wrong file says %+v", info)
	}
	if err := g.promote(); err == nil || !strings.Contains(err.Error(), "/etc/ipsec.conf:1:1") {
		t.Errorf("a wrong file is loaded: %v", err)
	}
}

// TestStaticReplacesAChangedRule: other keys under the same spi.
func TestStaticReplacesAChangedRule(t *testing.T) {
	g := newGateway(t, tunnelText+flowText, 1<<20)
	g.mustPromote()
	g.text = strings.ReplaceAll(g.text, "8899aabb", "9988bbaa")
	g.mustPromote()
	s := g.dump()
	if len(s.SAs) != 2 || len(s.Policies) != 3 {
		t.Fatalf("%d SAs and %d policies, want 2 and 3", len(s.SAs), len(s.Policies))
	}
	if n := g.kernel.Applied(sadb.OpDeleteSA); n != 1 {
		t.Errorf("%d SAs replaced, want the one whose key changed", n)
	}
}
