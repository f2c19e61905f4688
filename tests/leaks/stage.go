// Package leaks is the stage of drills about the leak guard: a gateway with real ESP whose
// policies are taken away while hosts go on sending, and what then leaves in plaintext.
package leaks

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
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

const (
	// Rate is that of each flow, in packets a second.
	Rate  = 1000
	limit = 30 * time.Second
)

// Stage is one gateway that has the tunnels, with a sasyncd that holds MASTER, in
// front of hosts that do not stop sending.
type Stage struct {
	*lab.Standard
	T       lab.T
	Gateway *lab.Gateway
	Guard   string // of sasyncd.conf
	Tunnels []lab.Tunnel
	Sasyncd *lab.Daemon

	// protected flows go where policies lead. Nothing may hit those beside: forwarded to
	// where no policy leads, and the gateway's own, inside and outside.
	protected, beside *meter.Meter
	esp, plain        atomic.Int64 // packets of the gateway on the WAN
	first, last       atomic.Int64 // when it sent in plaintext, in nanoseconds since 1970
}

// Setting is what rows change of the stage before traffic starts.
type Setting struct {
	Tunnels []lab.Tunnel // in place of lab.Tunnels()
	// Plain tells packets that should have been encrypted and are not; those to the remote
	// networks if it is nil.
	Plain func(*capture.Packet) bool
	// Before is called with the tunnels and without sasyncd.
	Before func(*Stage)
	Only4  bool // protected flows are of IPv4 alone
	Size   int  // of payloads of protected flows
	// More, if it is not nil, makes a flow that nothing may hit.
	More func(*Stage) meter.Config
}

// New sets the stage, with a guard of sasyncd.conf, and returns when all flows arrive.
func New(t lab.T, guard string, set Setting) *Stage {
	t.Helper()
	s := &Stage{Standard: lab.NewStandard(t, 1), T: t, Guard: guard, Tunnels: set.Tunnels}
	gw := s.Gateways[0]
	s.Gateway = gw
	gw.SetVIPs()
	if s.Tunnels == nil {
		s.Tunnels = lab.Tunnels()
	}
	lab.Install(gw.Node, s.Tunnels)
	lab.InstallRemote(s.RGW, s.Tunnels)
	if set.Before != nil {
		set.Before(s)
	}
	s.start()
	plain := set.Plain
	if plain == nil {
		plain = func(p *capture.Packet) bool { return lab.RemNet.Contains(p.Dst) || lab.RemNet6.Contains(p.Dst) }
	}
	capture.Start(t, capture.Config{Ports: []*lab.Port{gw.WAN}, Watch: func(p *capture.Packet) {
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
		return meter.Config{From: from, To: to, Src: src, Dst: dst, Port: port, Rate: Rate, Size: size}
	}
	flows := []meter.Config{flow(s.H1, s.H2, lab.H1Addr, lab.H2Addr, 7000, set.Size)}
	if !set.Only4 {
		flows = append(flows, flow(s.H1, s.H2, lab.H1Addr6, lab.H2Addr6, 7002, set.Size))
	}
	s.protected = meter.Start(t, flows...)
	flows = []meter.Config{
		flow(s.H1, s.RGW, lab.H1Addr, lab.RGWOut, 7100, 0), flow(s.H1, s.RGW, lab.H1Addr6, lab.RGWOut6, 7101, 0),
		flow(gw.Node, s.RGW, lab.VIPOut, lab.RGWOut, 7102, 0), flow(gw.Node, s.RGW, gw.OutAddr6, lab.RGWOut6, 7103, 0),
		flow(gw.Node, s.H1, lab.VIPIn, lab.H1Addr, 7104, 0), flow(gw.Node, s.H1, lab.VIPIn6, lab.H1Addr6, 7105, 0),
	}
	if set.More != nil {
		flows = append(flows, set.More(s))
	}
	s.beside = meter.Start(t, flows...)
	flowing(t, s.protected, 20)
	flowing(t, s.beside, 20)
	return s
}

// start starts sasyncd, and waits until it guards what there are policies for.
func (s *Stage) start() {
	s.T.Helper()
	dir := s.Gateway.Dir()
	s.Gateway.WriteFile("sasyncd.key", scenario.NewKey()+"\n")
	s.Sasyncd = s.Gateway.Daemon("sasyncd", "-dc", s.Gateway.WriteFile("sasyncd.conf", fmt.Sprintf(`mode master
listen on %s
sharedkey file "%s/sasyncd.key"
control none
socket "%s/sasyncd.sock"
statedir "%s"
guard %s
`, s.Gateway.SyncAddr, dir, dir, dir, s.Guard)))
	var a struct {
		Walls     []string
		Selectors int
	}
	lab.Eventually(s.T, 2*limit, "sasyncd to guard "+s.Guard, func() bool {
		return s.Ask("guard", &a) == nil &&
			(s.Guard == "no" || len(a.Walls) > 0 && a.Selectors == len(s.Tunnels))
	})
}

// Ask asks sasyncd, see [scenario.Ask].
func (s *Stage) Ask(verb string, v any) error {
	return scenario.Ask(s.Gateway.Dir()+"/sasyncd.sock", verb, v)
}

// Verb runs sasyncd with one of its verbs.
func (s *Stage) Verb(name string) {
	s.T.Helper()
	bin, err := harness.Binary("sasyncd")
	if err != nil {
		s.T.Fatalf("%v", err)
	}
	s.Gateway.Run(bin + " -c " + s.Gateway.Dir() + "/sasyncd.conf " + name)
}

// Gone waits until n more packets have been sent on each protected flow, and until the
// gateway has sent in plaintext or the guard has dropped something.
func (s *Stage) Gone(n int) {
	s.T.Helper()
	want := make([]int, len(s.protected.Flows))
	for i, f := range s.protected.Flows {
		want[i] = f.Sent() + n
	}
	lab.Eventually(s.T, 2*limit, "packets without an SA", func() bool {
		time.Sleep(50 * time.Millisecond)
		for i, f := range s.protected.Flows {
			if f.Sent() < want[i] {
				return false
			}
		}
		return s.plain.Load() > 0 || Stopped(s.T, s.Gateway.Node) > 0
	})
}

// Flowing waits until n more packets have arrived on each protected flow.
func (s *Stage) Flowing(n int) {
	s.T.Helper()
	flowing(s.T, s.protected, n)
}

// Plaintext is how many packets have left in plaintext so far; it lags some 20 ms behind.
func (s *Stage) Plaintext() int { return int(s.plain.Load()) }

// Result judges a row and prints it. A capture lags behind the wire.
func (s *Stage) Result(row string, gap bool) {
	s.T.Helper()
	for _, vip := range []netip.Addr{lab.VIPOut, lab.VIPOut6} {
		if err := SendIKE(s.T, s.Gateway.Node, vip); err != nil {
			s.T.Errorf("IKE from %v: %v", vip, err)
		}
	}
	flowing(s.T, s.beside, 20)
	s.beside.Stop()
	r := &reliability.Leak{Row: row, Guard: s.Guard, Plaintext: int(s.plain.Load()), Dropped: Stopped(s.T, s.Gateway.Node),
		Lost: s.beside.Total().Lost}
	if r.Plaintext > 0 {
		r.GapMS = int((s.last.Load() - s.first.Load()) / int64(time.Millisecond))
	}
	if s.esp.Load() == 0 {
		s.T.Errorf("nothing was ever encrypted")
	}
	if r.Lost > 0 {
		s.T.Errorf("of what no policy is for, and of the gateway's own, %v", s.beside.Total())
	}
	switch {
	case s.Guard == "no" && r.Plaintext == 0:
		s.T.Errorf("without a guard nothing left in plaintext: the row shows nothing")
	case s.Guard != "no" && r.Plaintext > 0 && !gap:
		s.T.Errorf("%d packets left in plaintext", r.Plaintext)
	case s.Guard != "no" && r.Dropped == 0:
		s.T.Errorf("the guard has dropped nothing")
	}
	reportLeak(s.T, r)
}

// reportLeak prints a result for the generator of docs/reliability.md.
func reportLeak(t lab.T, r *reliability.Leak) {
	t.Helper()
	var u unix.Utsname
	_ = unix.Uname(&u)
	r.Stamp = reliability.Stamp{Version: *version, Kernel: "Linux " + unix.ByteSliceToString(u.Release[:]),
		Date: time.Now().UTC().Format("2006-01-02")}
	t.Logf("%s, guard %s: %d in plaintext in %d ms, %d dropped, %d of others lost", r.Row, r.Guard, r.Plaintext,
		r.GapMS, r.Dropped, r.Lost)
	if err := reliability.Print(os.Stdout, r); err != nil {
		t.Fatalf("%v", err)
	}
}

// Policies are the commands that delete or add outbound policies of the tunnels; more is
// put in front of the template.
func (s *Stage) Policies(verb, more string) (lines []string) {
	for _, tn := range s.Tunnels {
		line := fmt.Sprintf("xfrm policy %s dir out src %s dst %s", verb, tn.LocalNet, tn.RemoteNet)
		if verb != "delete" {
			line += fmt.Sprintf(" %s tmpl src %s dst %s proto esp reqid %d mode tunnel", more, tn.Local, tn.Remote, tn.ReqID)
		}
		lines = append(lines, line)
	}
	return lines
}

// NFT loads a ruleset beside the guard.
func (s *Stage) NFT(ruleset string) {
	s.T.Helper()
	s.Gateway.Run("nft -f " + s.Gateway.WriteFile("beside.nft", strings.TrimSpace(ruleset)+"\n"))
}

// flowing waits until n more packets have arrived on every flow.
func flowing(t lab.T, m *meter.Meter, n int) {
	t.Helper()
	want := make([]int, len(m.Flows))
	for i, f := range m.Flows {
		want[i] = f.Received() + n
	}
	lab.Eventually(t, limit, "traffic on every flow", func() bool {
		time.Sleep(20 * time.Millisecond) // the guest pays for every look
		for i, f := range m.Flows {
			if f.Received() < want[i] {
				return false
			}
		}
		return true
	})
}

// SendIKE sends a datagram from port 500 of an address that the node may not
// have, and returns what the kernel says to that.
func SendIKE(t lab.T, nd *lab.Node, src netip.Addr) (sent error) {
	t.Helper()
	err := nd.Do(func() error {
		domain, level, opt := unix.AF_INET, unix.IPPROTO_IP, unix.IP_FREEBIND
		var from, to unix.Sockaddr = &unix.SockaddrInet4{Port: 500, Addr: lab.VIPOut.As4()},
			&unix.SockaddrInet4{Port: 500, Addr: lab.RGWOut.As4()}
		if src.Is6() {
			domain, level, opt = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
			from, to = &unix.SockaddrInet6{Port: 500, Addr: src.As16()}, &unix.SockaddrInet6{Port: 500,
				Addr: lab.RGWOut6.As16()}
		}
		fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := errors.Join(unix.SetsockoptInt(fd, level, opt, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, from)); err != nil {
			return err
		}
		sent = unix.Sendto(fd, []byte("from a gateway"), 0, to)
		return nil
	})
	if err != nil {
		t.Fatalf("send from %v of %s: %v", src, nd.Name, err)
	}
	return sent
}

var counted = regexp.MustCompile(`packets (\d+) bytes`)

// Stopped is how many packets the walls of a gateway have stopped, as the kernel counts.
func Stopped(t lab.T, g *lab.Node) (n int) {
	t.Helper()
	table, err := g.Try("nft list table inet sasyncd")
	if err != nil {
		table = "" // there is none
	}
	for _, m := range counted.FindAllStringSubmatch(table, -1) {
		k, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatalf("%v", err)
		}
		n += k
	}
	var links []struct {
		Stats64 struct{ TX struct{ Packets int } }
	}
	if out, err := g.Try("ip -s -j link show dev sasyncd-null"); err == nil {
		if err := json.Unmarshal([]byte(out), &links); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
	}
	for _, l := range links {
		n += l.Stats64.TX.Packets
	}
	return n
}
