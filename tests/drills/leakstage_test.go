package drills

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/reliability"
	"sasyncd/tests/scenario"
)

var version = flag.String("version", "unknown", "of what is tested, for the report")

// leakRate is that of each flow, in packets a second.
const leakRate = 1000

// leakStage is one gateway that has the tunnels, with a sasyncd that holds MASTER, in
// front of hosts that do not stop sending.
type leakStage struct {
	*lab.Standard
	t       *testing.T
	gw      *lab.Gateway
	guard   string // of sasyncd.conf
	tunnels []lab.Tunnel
	sasyncd *lab.Daemon

	// protected flows go where policies lead. Nothing may hit those beside: forwarded to
	// where no policy leads, and the gateway's own, inside and outside.
	protected, beside *meter.Meter
	more              meter.Config // one beside, if it has a rate
	esp, plain        atomic.Int64 // packets of the gateway on the WAN
	first, last       atomic.Int64 // when it sent in plaintext, in nanoseconds since 1970
}

// setting is what rows change of the stage before traffic starts.
type setting struct {
	tunnels []lab.Tunnel // in place of lab.Tunnels()
	// plain tells packets that should have been encrypted and are not; those to the remote
	// networks if it is nil.
	plain func(*capture.Packet) bool
	// before is called with the tunnels and without sasyncd.
	before func(*leakStage)
	only4  bool // protected flows are of IPv4 alone
	size   int  // of payloads of protected flows
}

func newLeakStage(t *testing.T, guard string, set setting) *leakStage {
	t.Helper()
	s := &leakStage{Standard: lab.NewStandard(t, 1), t: t, guard: guard, tunnels: set.tunnels}
	s.gw = s.Gateways[0]
	s.gw.SetVIPs()
	if s.tunnels == nil {
		s.tunnels = lab.Tunnels()
	}
	lab.Install(s.gw.Node, s.tunnels)
	lab.InstallRemote(s.RGW, s.tunnels)
	if set.before != nil {
		set.before(s)
	}
	s.start()
	plain := set.plain
	if plain == nil {
		plain = func(p *capture.Packet) bool { return lab.RemNet.Contains(p.Dst) || lab.RemNet6.Contains(p.Dst) }
	}
	capture.Start(t, capture.Config{Ports: []*lab.Port{s.gw.WAN}, Watch: func(p *capture.Packet) {
		switch {
		case p.IsESP:
			s.esp.Add(1)
		case plain(p):
			s.plain.Add(1)
			s.first.CompareAndSwap(0, p.At.UnixNano())
			s.last.Store(p.At.UnixNano())
		}
	}})
	flow := func(from, to *lab.Node, src, dst netip.Addr, port uint16, size int) meter.Config {
		return meter.Config{From: from, To: to, Src: src, Dst: dst, Port: port, Rate: leakRate, Size: size}
	}
	flows := []meter.Config{flow(s.H1, s.H2, lab.H1Addr, lab.H2Addr, 7000, set.size)}
	if !set.only4 {
		flows = append(flows, flow(s.H1, s.H2, lab.H1Addr6, lab.H2Addr6, 7002, set.size))
	}
	s.protected = meter.Start(t, flows...)
	flows = []meter.Config{
		flow(s.H1, s.RGW, lab.H1Addr, lab.RGWOut, 7100, 0), flow(s.H1, s.RGW, lab.H1Addr6, lab.RGWOut6, 7101, 0),
		flow(s.gw.Node, s.RGW, lab.VIPOut, lab.RGWOut, 7102, 0), flow(s.gw.Node, s.RGW, s.gw.OutAddr6, lab.RGWOut6, 7103, 0),
		flow(s.gw.Node, s.H1, lab.VIPIn, lab.H1Addr, 7104, 0), flow(s.gw.Node, s.H1, lab.VIPIn6, lab.H1Addr6, 7105, 0),
	}
	if s.more.Rate > 0 {
		flows = append(flows, s.more)
	}
	s.beside = meter.Start(t, flows...)
	flowing(t, s.protected, 20)
	flowing(t, s.beside, 20)
	return s
}

// start starts sasyncd, and waits until it guards what there are policies for.
func (s *leakStage) start() {
	s.t.Helper()
	dir := s.gw.Dir()
	s.gw.WriteFile("sasyncd.key", scenario.NewKey()+"\n")
	s.sasyncd = s.gw.Daemon("sasyncd", "-dc", s.gw.WriteFile("sasyncd.conf", fmt.Sprintf(`mode master
listen on %s
sharedkey file "%s/sasyncd.key"
control none
socket "%s/sasyncd.sock"
statedir "%s"
guard %s
`, s.gw.SyncAddr, dir, dir, dir, s.guard)))
	var a struct {
		Walls     []string
		Selectors int
	}
	lab.Eventually(s.t, 2*limit, "sasyncd to guard "+s.guard, func() bool {
		return scenario.Ask(dir+"/sasyncd.sock", "guard", &a) == nil &&
			(s.guard == "no" || len(a.Walls) > 0 && a.Selectors == len(s.tunnels))
	})
}

// verb runs sasyncd with one of its verbs.
func (s *leakStage) verb(name string) {
	s.t.Helper()
	bin, err := harness.Binary("sasyncd")
	if err != nil {
		s.t.Fatal(err)
	}
	s.gw.Run(bin + " -c " + s.gw.Dir() + "/sasyncd.conf " + name)
}

// gone waits until n more packets have been sent on each protected flow, and until the
// gateway has sent in plaintext or the guard has dropped something.
func (s *leakStage) gone(n int) {
	s.t.Helper()
	want := make([]int, len(s.protected.Flows))
	for i, f := range s.protected.Flows {
		want[i] = f.Sent() + n
	}
	lab.Eventually(s.t, 2*limit, "packets without an SA", func() bool {
		time.Sleep(50 * time.Millisecond)
		for i, f := range s.protected.Flows {
			if f.Sent() < want[i] {
				return false
			}
		}
		return s.plain.Load() > 0 || stopped(s.t, s.gw.Node) > 0
	})
}

// result judges a row and prints it. A capture lags behind the wire.
func (s *leakStage) result(row string, gap bool) {
	s.t.Helper()
	for _, vip := range []netip.Addr{lab.VIPOut, lab.VIPOut6} {
		if err := sendIKE(s.t, s.gw.Node, vip); err != nil {
			s.t.Errorf("IKE from %v: %v", vip, err)
		}
	}
	flowing(s.t, s.beside, 20)
	s.beside.Stop()
	r := &reliability.Leak{Row: row, Guard: s.guard, Plaintext: int(s.plain.Load()), Dropped: stopped(s.t, s.gw.Node),
		Lost: s.beside.Total().Lost}
	if r.Plaintext > 0 {
		r.GapMS = int((s.last.Load() - s.first.Load()) / int64(time.Millisecond))
	}
	if s.esp.Load() == 0 {
		s.t.Error("nothing was ever encrypted")
	}
	if r.Lost > 0 {
		s.t.Errorf("of what no policy is for, and of the gateway's own, %v", s.beside.Total())
	}
	switch {
	case s.guard == "no" && r.Plaintext == 0:
		s.t.Error("without a guard nothing left in plaintext: the row shows nothing")
	case s.guard != "no" && r.Plaintext > 0 && !gap:
		s.t.Errorf("%d packets left in plaintext", r.Plaintext)
	case s.guard != "no" && r.Dropped == 0:
		s.t.Error("the guard has dropped nothing")
	}
	reportLeak(s.t, r)
}

// reportLeak prints a result for the generator of docs/reliability.md.
func reportLeak(t *testing.T, r *reliability.Leak) {
	t.Helper()
	var u unix.Utsname
	_ = unix.Uname(&u)
	r.Stamp = reliability.Stamp{Version: *version, Kernel: "Linux " + unix.ByteSliceToString(u.Release[:]),
		Date: time.Now().UTC().Format("2006-01-02")}
	t.Logf("%s, guard %s: %d in plaintext in %d ms, %d dropped, %d of others lost", r.Row, r.Guard, r.Plaintext,
		r.GapMS, r.Dropped, r.Lost)
	if err := reliability.Print(os.Stdout, r); err != nil {
		t.Fatal(err)
	}
}

// policies are the commands that delete or add outbound policies of the tunnels; more is
// put in front of the template.
func (s *leakStage) policies(verb, more string) (lines []string) {
	for _, tn := range s.tunnels {
		line := fmt.Sprintf("xfrm policy %s dir out src %s dst %s", verb, tn.LocalNet, tn.RemoteNet)
		if verb != "delete" {
			line += fmt.Sprintf(" %s tmpl src %s dst %s proto esp reqid %d mode tunnel", more, tn.Local, tn.Remote, tn.ReqID)
		}
		lines = append(lines, line)
	}
	return lines
}

// nft loads a ruleset beside the guard.
func (s *leakStage) nft(ruleset string) {
	s.t.Helper()
	s.gw.Run("nft -f " + s.gw.WriteFile("beside.nft", strings.TrimSpace(ruleset)+"\n"))
}
