package matrix

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// rate of each of the four flows, in packets a second.
const rate = 100

// guard is the T of a pair: it remembers what failed for the cell at work, and
// ends that cell, not the test.
type guard struct {
	*testing.T
	mu    sync.Mutex
	says  []string
	armed atomic.Bool
	quiet bool // what fails is expected to
}

// over ends a cell.
type over struct{}

func (g *guard) Errorf(format string, args ...any) {
	g.T.Helper()
	g.mu.Lock()
	g.says = append(g.says, fmt.Sprintf(format, args...))
	g.mu.Unlock()
	if !g.quiet {
		g.T.Errorf(format, args...)
	}
}

func (g *guard) Fatalf(format string, args ...any) {
	g.T.Helper()
	g.Errorf(format, args...)
	if !g.armed.Load() {
		g.FailNow()
	}
	panic(over{})
}

// take returns what failed since the last call.
func (g *guard) take() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.says
	g.says = nil
	return s
}

// change is an announcement of a kernel.
type change struct {
	at time.Time
	sadb.Event
}

// side is a gateway and how the test sees it.
type side struct {
	*scenario.Member
	kernel *xfrm.Kernel
	t      *guard

	mu      sync.Mutex
	changes []change
	without []span // sasyncd was not running
}

// span is a time; an open end is zero.
type span struct{ from, to time.Time }

// row is a pair on which one fault happens at several moments.
type row struct {
	*scenario.Pair
	t     *guard
	fault fault
	rand  *rand.Rand
	sides []*side

	capture *capture.Capture
	meter   *meter.Meter // nil in the beginning, and where the clock is stepped
	pings   *pinger

	tunnels []lab.Tunnel
	dead    map[uint32]bool // SPIs that the test has deleted
	bulk    []*sadb.SA
	spi     uint32 // the next one for SAs without traffic
	terms   uint64 // the highest seen

	mu     sync.Mutex
	reigns []turn                    // of the capture's goroutine
	sent   map[*lab.Port][]time.Time // ESP from virtual addresses
}

// local are SPIs of SAs that are no gateway group's.
const (
	sentinel = 0x9000
	crowd    = 0x50000000 // and more: SAs without traffic, which come and go
)

func newRow(t *testing.T, f fault) *row {
	t.Helper()
	g := &guard{T: t}
	r := &row{t: g, fault: f, rand: rand.New(rand.NewPCG(*seed, 1)), dead: map[uint32]bool{}, spi: crowd,
		sent: map[*lab.Port][]time.Time{}}
	r.Pair = scenario.NewPair(g)
	r.StartHold, r.AloneAfter = 500*time.Millisecond, gapAlone
	r.tunnels = r.Tunnels
	for i, m := range r.Members {
		s := &side{Member: m, t: g}
		r.sides = append(r.sides, s)
		s.watch(g)
		r.local(i)
	}
	if f.prepare != nil {
		f.prepare(r)
	}
	r.Start()
	r.capture = capture.Start(g, capture.Config{Ports: r.WANPorts(), Inner: lab.Inner(), Watch: r.reign})
	return r
}

// local installs an SA and a policy between addresses of which none is virtual.
func (r *row) local(i int) {
	m := r.Members[i]
	own := m.SyncAddr.String()
	m.IP(fmt.Sprintf("xfrm state add src %s dst 10.9.0.99 proto esp spi %#x reqid 99 mode transport aead "+
		"rfc4106(gcm(aes)) 0x%x 128", own, sentinel+i, sadbtest.Bytes(r.rand, 20)),
		fmt.Sprintf("xfrm policy update dir out src %s dst 10.9.0.99 tmpl proto esp reqid 99 mode transport", own))
}

// reign notes who begins to advertise itself as master, and who sends ESP from a
// virtual address. What the remote sends to one, a gateway that has lost it may
// pass on to who has it now.
func (r *row) reign(p *capture.Packet) {
	if p.IsESP && (p.Src == lab.VIPOut || p.Src == lab.VIPOut6) {
		r.mu.Lock()
		r.sent[p.Port] = append(r.sent[p.Port], p.At)
		r.mu.Unlock()
		return
	}
	const ipv4, vrrp, priority = 14, 112, 14 + 20 + 2
	if p.Type != unix.ETH_P_IP || p.Proto != vrrp || len(p.Frame) <= priority || p.Frame[ipv4] != 0x45 ||
		p.Frame[priority] == 0 {
		return
	}
	for _, s := range r.sides {
		if s.WAN != p.Port {
			continue
		}
		r.mu.Lock()
		if n := len(r.reigns); n == 0 || r.reigns[n-1].s != s {
			r.reigns = append(r.reigns, turn{p.At, s})
		}
		r.mu.Unlock()
	}
}

// turn is when a gateway begins to advertise itself as master.
type turn struct {
	at time.Time
	s  *side
}

// turns returns who was master from a time on, by the wire. first is at that time.
func (r *row) turns(first *side, from time.Time) []turn {
	list := []turn{{from, first}}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, tn := range r.reigns {
		if tn.at.After(from) {
			list = append(list, tn)
		}
	}
	return slices.CompactFunc(list, func(a, b turn) bool { return a.s == b.s })
}

// sentBetween is how many ESP packets a gateway sent from virtual addresses.
func (r *row) sentBetween(s *side, from, to time.Time) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.sent[s.WAN] {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}

// watch opens the kernel and collects its announcements.
func (s *side) watch(t *guard) {
	t.Helper()
	if err := s.Do(func() (err error) { s.kernel, err = xfrm.New(xfrm.Options{}); return err }); err != nil {
		t.Fatalf("open kernel of %s: %v", s.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	events, err := s.kernel.Watch(ctx)
	if err != nil {
		t.Fatalf("watch kernel of %s: %v", s.Name, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ev := range events {
			s.mu.Lock()
			s.changes = append(s.changes, change{time.Now(), ev})
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := s.kernel.Close(); err != nil {
			t.Errorf("close kernel of %s: %v", s.Name, err)
		}
	})
}

// since returns the announcements from a time on.
func (s *side) since(from time.Time) (list []change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.changes {
		if !c.at.Before(from) {
			list = append(list, c)
		}
	}
	return list
}

// stopSasyncd kills sasyncd, startSasyncd starts it; both remember when.
func (s *side) stopSasyncd() {
	s.Sasyncd.Kill()
	s.without = append(s.without, span{from: time.Now()})
}

func (s *side) startSasyncd() {
	s.StartSasyncd()
	if n := len(s.without); n > 0 && s.without[n-1].to.IsZero() {
		s.without[n-1].to = time.Now()
	}
}

// off is a power cut, on the return of power; it does not wait.
func (s *side) off() {
	s.Off()
	s.without = append(s.without, span{from: time.Now()})
}

func (s *side) on() {
	s.forgetQueues()
	s.Boot()
	s.StartCarpd()
	s.startSasyncd()
	s.PowerOn()
}

// masters returns who is master, and who is not.
func (r *row) masters() (in, out []*side) {
	ms := r.Masters()
	for _, s := range r.sides {
		is := false
		for _, m := range ms {
			is = is || m == s.Member
		}
		if is {
			in = append(in, s)
		} else {
			out = append(out, s)
		}
	}
	return in, out
}

// settle waits until one gateway is master and the other would take over at once.
func (r *row) settle() (master, standby *side) {
	r.t.Helper()
	lab.Eventually(r.t, 2*limit, "one master", func() bool {
		time.Sleep(50 * time.Millisecond)
		in, _ := r.masters()
		return len(in) == 1
	})
	in, out := r.masters()
	if len(in) != 1 {
		r.t.Fatalf("%d masters", len(in))
	}
	r.WaitFit(in[0].Member)
	return in[0], out[0]
}

// take returns the longest time between two answers since the last call.
func (g *pinger) take() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := max(g.gap, time.Since(g.last))
	g.gap = 0
	return d
}

// takeovers returns when carpd logged, from a time on, that it was master.
func (s *side) takeovers(from time.Time) (list []time.Time) {
	for _, l := range s.lines("carpd", from) {
		if strings.Contains(l.text, "state group="+scenario.Group) && strings.Contains(l.text, "to=master") {
			list = append(list, l.at)
		}
	}
	return list
}
