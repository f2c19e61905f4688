// Package hostile is what a pair of gateways must bear from those who wish it
// ill: strangers, peers with the key that talk nonsense, local users. The pair
// must keep its roles and its session, go on replicating, use no more than a
// bounded amount of memory, and count what it refused. "make drill-hostile".
package hostile

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

func TestMain(m *testing.M) {
	harness.Main(m, append(scenario.Options(), harness.Memory(1<<30))...)
}

// Bounds of what an attack may cost.
const (
	lagLimit = 2 * time.Second // attacker, generator and both gateways share one processor in a guest
	memLimit = 48 << 20        // bytes beyond what a daemon had before
	fdLimit  = 96              // descriptors beyond: each listener has its own bound
)

// arena is a pair, and somebody in all of its networks: mallory, whose address
// 10.9.0.66 is a peer's.
type arena struct {
	*scenario.Pair
	t       *testing.T
	mallory *lab.Node
	probe   *probe
}

const malloryAddr = "10.9.0.66"

func newArena(t *testing.T) *arena {
	t.Helper()
	a := &arena{Pair: scenario.NewPair(t), t: t}
	a.SasyncdExtra = "peer " + malloryAddr + "\nmetrics listen on 127.0.0.1 port 9750\n"
	a.CarpdExtra = "metrics listen on 127.0.0.1 port 9751\n"
	a.RouterExtra = "key 1 0123456789abcdef0123456789abcdef; auth enforce"
	a.AloneAfter = 2 * time.Second // mallory is no peer to wait for
	a.mallory = a.Node("mallory")
	a.mallory.Plug(a.Sync, "sync0", malloryAddr+"/24")
	a.mallory.Plug(a.WAN, "wan0", "192.0.2.66/24")
	a.mallory.Plug(a.LAN, "lan0", "10.1.0.66/24")
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf("addr add 10.9.0.%d/24 dev sync0", 100+i))
	}
	a.mallory.IP(lines...)
	for _, m := range a.Members {
		m.StartDaemons()
	}
	a.Members[0].Lead()
	a.Members[1].WaitInSync()
	a.probe = startProbe(t, a)
	return a
}

// probe adds an SA on the MASTER every 50 ms and notes when the standby has it.
type probe struct {
	t      *testing.T
	master *scenario.Member

	mu   sync.Mutex
	sent map[uint32]time.Time
	lags []time.Duration
}

func startProbe(t *testing.T, a *arena) *probe {
	t.Helper()
	p := &probe{t: t, master: a.Members[0], sent: map[uint32]time.Time{}}
	var k *xfrm.Kernel
	if err := a.Members[1].Do(func() (err error) {
		k, err = xfrm.New(xfrm.Options{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	events, err := k.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for ev := range events {
			if ev.Kind == sadb.EventPutSA {
				p.mu.Lock()
				if at, ok := p.sent[ev.SA.Key.SPI]; ok {
					p.lags = append(p.lags, time.Since(at))
					delete(p.sent, ev.SA.Key.SPI)
				}
				p.mu.Unlock()
			}
		}
	})
	tasks.Go(func() { p.run(ctx) })
	t.Cleanup(func() {
		cancel()
		tasks.Wait()
		k.Close()
	})
	return p
}

func (p *probe) run(ctx context.Context) {
	r := sadbtest.NewRand(7)
	var old []*netlink.XfrmState
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for spi := uint32(0x100000); ; spi++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sa := &netlink.XfrmState{
			Src: lab.VIPOut.AsSlice(), Dst: netip.AddrFrom4([4]byte{198, 18, byte(spi >> 8), byte(spi)}).AsSlice(),
			Spi:   int(spi),
			Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Reqid: 5000, ReplayWindow: 128, ESN: true,
			Aead: &netlink.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: sadbtest.Bytes(r, 20), ICVLen: 128},
		}
		p.mu.Lock()
		p.sent[spi] = time.Now()
		p.mu.Unlock()
		if err := p.master.Netlink().XfrmStateAdd(sa); err != nil {
			p.t.Errorf("add an SA: %v", err)
		}
		if old = append(old, sa); len(old) > 50 {
			if err := p.master.Netlink().XfrmStateDel(old[0]); err != nil {
				p.t.Errorf("delete an SA: %v", err)
			}
			old = old[1:]
		}
	}
}

// take returns the lags since the last call, and how long the oldest SA waits
// that has not arrived.
func (p *probe) take() (lags []time.Duration, waiting time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lags, p.lags = p.lags, nil
	for _, at := range p.sent {
		waiting = max(waiting, time.Since(at))
	}
	return lags, waiting
}

// picture is what the daemons of both gateways say of themselves.
type picture map[string]scenario.Metrics

func (a *arena) look() picture {
	a.t.Helper()
	p := picture{}
	for _, m := range a.Members {
		for name, at := range map[string]string{"sasyncd": "127.0.0.1:9750", "carpd": "127.0.0.1:9751"} {
			x, err := m.Scrape(a.t.Context(), at)
			if err != nil {
				a.t.Fatalf("metrics of %s on %s: %v", name, m.Name, err)
			}
			p[m.Name+"/"+name] = x
		}
	}
	return p
}

// attack has something done to the pair and judges how it bore it. refusals are
// prefixes of metrics of which at least one must have grown on gw1 or gw2, by
// at least so much.
func (a *arena) attack(name string, refusals map[string]float64, do func()) {
	a.t.Run(name, func(t *testing.T) {
		before := a.look()
		since := a.sessions()
		a.probe.take()
		do()
		during := a.look()
		a.settle(t)
		lags, _ := a.probe.take()
		after := a.look()
		slices.Sort(lags)
		if len(lags) == 0 {
			t.Fatal("nothing was replicated meanwhile")
		}
		worst := lags[len(lags)-1]
		t.Logf("%d SAs replicated, lag median %.1f ms, p99 %.1f ms, worst %.1f ms", len(lags), ms(lags[len(lags)/2]),
			ms(lags[len(lags)*99/100]), ms(worst))
		if worst > lagLimit {
			t.Errorf("an SA took %v to the standby", worst)
		}
		for _, who := range slices.Sorted(maps.Keys(before)) {
			b, d, x := before[who], during[who], after[who]
			t.Logf("%-12s resident %5.1f -> %5.1f -> %5.1f MB, descriptors %3.0f -> %3.0f -> %3.0f, goroutines %3.0f "+
				"-> %3.0f -> %3.0f", who,
				b["process_resident_memory_bytes"]/1e6, d["process_resident_memory_bytes"]/1e6,
				x["process_resident_memory_bytes"]/1e6,
				b["process_open_fds"], d["process_open_fds"], x["process_open_fds"], b["go_goroutines"],
				d["go_goroutines"], x["go_goroutines"])
			if n := max(d["process_resident_memory_bytes"],
				x["process_resident_memory_bytes"]) - b["process_resident_memory_bytes"]; n > memLimit {
				t.Errorf("%s took %.1f MB more", who, n/1e6)
			}
			if n := d["process_open_fds"] - b["process_open_fds"]; n > fdLimit {
				t.Errorf("%s opened %.0f descriptors", who, n)
			}
			if n := x["process_open_fds"] - b["process_open_fds"]; n > 8 {
				t.Errorf("%s keeps %.0f descriptors", who, n)
			}
			if b["carpd_term{group=\"ipsec\"}"] != x["carpd_term{group=\"ipsec\"}"] {
				t.Errorf("%s: the term changed", who)
			}
		}
		if now := a.sessions(); now != since {
			t.Errorf("the session between the gateways is another: %s, was %s", now, since)
		}
		if ms := a.Masters(); len(ms) != 1 || ms[0] != a.Members[0] {
			t.Errorf("masters are %v", ms)
		}
		var seen []string
		for prefix, least := range refusals {
			grown := 0.0
			for who, x := range after {
				for k, v := range x {
					if d := v - before[who][k]; strings.HasPrefix(k, prefix) && d > 0 {
						grown += d
						seen = append(seen, fmt.Sprintf("%s %s +%.0f", who, k, d))
					}
				}
			}
			if grown < least {
				t.Errorf("%s grew by %.0f, want %.0f at least", prefix, grown, least)
			}
		}
		slices.Sort(seen)
		for _, s := range seen {
			t.Log(s)
		}
	})
}

// settle waits until what is under way has arrived and connections are gone.
func (a *arena) settle(t *testing.T) {
	t.Helper()
	lab.Eventually(t, 20*time.Second, "replication to go on", func() bool {
		time.Sleep(50 * time.Millisecond)
		_, waiting := a.probe.take2()
		return waiting < 500*time.Millisecond
	})
	// Half-open connections live for their time limit.
	time.Sleep(3 * time.Second)
}

// take2 is take without taking.
func (p *probe) take2() (n int, waiting time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range p.sent {
		waiting = max(waiting, time.Since(at))
	}
	return len(p.lags), waiting
}

// sessions names the session between the gateways, from both sides.
func (a *arena) sessions() string {
	a.t.Helper()
	var list []string
	for i, m := range a.Members {
		s, err := m.Status()
		if err != nil {
			a.t.Fatalf("status of %s: %v", m.Name, err)
		}
		for _, x := range s.Members {
			if x.Peer == a.Members[1-i].SyncAddr.String() {
				list = append(list, m.Name+" since "+x.Since.Format(time.RFC3339Nano))
			}
		}
	}
	return strings.Join(list, ", ")
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
