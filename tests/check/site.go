package check

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// Limits say that something hangs, not how fast it should be.
const (
	startLimit = 30 * time.Second
	askLimit   = time.Second
)

// rate of each of the four flows, in packets a second.
const rate = 25

// Site is the lab of one failover of one situation.
type Site struct {
	*lab.Standard
	Members []*Member

	t       lab.T
	it      *Situation
	tunnels []lab.Tunnel
	traffic *meter.Meter
	view    *view
	wire    *wire     // nil without ESP
	local   []virtual // see derived
}

// Member is a gateway with its daemons.
type Member struct {
	*lab.Gateway
	Carpd, Sasyncd, Other *lab.Daemon // nil while not started

	site     *Site
	n        int // from 0
	key      string
	priority int
	hangs    bool   // sasyncd is stopped and cannot answer
	alone    string // "alone after" of carpd.conf
}

// newSite builds the lab of a situation and starts its daemons: the first gateway,
// and when that is MASTER the others.
func newSite(t lab.T, it *Situation) *Site {
	t.Helper()
	s := &Site{Standard: lab.NewStandard(t, it.gateways()), t: t, it: it}
	key := scenario.NewKey()
	for i, g := range s.Gateways {
		s.Members = append(s.Members, &Member{Gateway: g, site: s, n: i, key: key, priority: 200 - 50*i, alone: "10s"})
	}
	first := s.Members[master]
	s.addTunnels(first)
	for _, do := range it.Before {
		do(s)
	}
	first.alone = "1s"
	first.start()
	s.await(startLimit, first.Name+" is MASTER", func() bool { return first.role() == "MASTER" })
	first.alone = "10s"
	s.local = s.derived(first)
	if first.Carpd != nil {
		first.write("carpd.conf")
		if _, err := first.askCarpd(api.Request{Verb: api.VerbReload}); err != nil {
			t.Fatalf("%s: reload: %v", first.Name, err)
		}
	}
	for _, m := range s.Members[1:] {
		m.start()
	}
	return s
}

// addTunnels gives the first gateway what it replicates: with ESP the tunnels of
// the lab; else a policy of other traffic, without which a MASTER would forward
// nothing for its first 10 s.
func (s *Site) addTunnels(first *Member) {
	s.t.Helper()
	switch {
	case s.it.NoTunnel:
	case s.it.ESP:
		s.tunnels = lab.Tunnels()
		lab.Install(first.Node, s.tunnels)
		lab.InstallRemote(s.RGW, s.tunnels)
	default:
		first.IP(fmt.Sprintf("xfrm policy add dir out src 10.250.0.0/16 dst 10.251.0.0/16 tmpl src %s dst "+
			"198.51.100.1 proto esp mode tunnel", lab.VIPOut))
	}
}

// observe starts what is only needed for a failover: traffic, and those who look. It
// comes late, because other labs need the machine.
func (s *Site) observe() {
	s.t.Helper()
	if s.it.ESP {
		s.wire = newWire(s)
	}
	flow := func(src, dst netip.Addr, port uint16) []meter.Config {
		return meter.Both(meter.Config{From: s.H1, To: s.H2, Src: src, Dst: dst, Port: port, Rate: rate})
	}
	s.traffic = meter.Start(s.t, append(flow(lab.H1Addr, lab.H2Addr, 7000), flow(lab.H1Addr6, lab.H2Addr6, 7002)...)...)
	s.view = s.watch()
}

func (s *Site) await(limit time.Duration, what string, cond func() bool) {
	s.t.Helper()
	lab.Eventually(s.t, limit, what, func() bool {
		if cond() {
			return true
		}
		time.Sleep(harness.Scaled(100 * time.Millisecond)) // what asks competes with what answers
		return false
	})
}

// start starts the member's daemons and waits until they answer.
func (m *Member) start() {
	m.site.t.Helper()
	m.startElection()
	m.startSasyncd()
}

func (m *Member) startElection() {
	m.site.t.Helper()
	switch m.site.it.election() {
	case VRRP, CARP:
		m.startCarpd()
	case Keepalived, Address:
		m.startKeepalived()
	case Link:
		m.addLink()
	}
}

func (m *Member) startCarpd() {
	m.site.t.Helper()
	m.Carpd = m.Daemon("carpd", "-dc", m.write("carpd.conf"))
	m.site.await(startLimit, "carpd of "+m.Name+" to answer", func() bool {
		_, err := m.elected()
		return err == nil
	})
}

func (m *Member) startSasyncd() {
	m.site.t.Helper()
	m.write("sasyncd.key")
	m.Sasyncd = m.Daemon("sasyncd", "-dc", m.write("sasyncd.conf"))
	m.site.await(startLimit, "sasyncd of "+m.Name+" to answer", func() bool {
		return m.said() != None
	})
}

// write writes a configuration file as the situation has it.
func (m *Member) write(file string) string {
	m.site.t.Helper()
	text := map[string]func() string{
		"carpd.conf":      m.carpdConf,
		"sasyncd.conf":    m.sasyncdConf,
		"keepalived.conf": func() string { return scenario.KeepalivedConf(m.Name, m.Dir(), m.priority) },
		"sasyncd.key":     func() string { return m.key + "\n" },
	}[file]()
	for _, e := range m.site.it.Edits {
		if e.Gateway != m.n || e.File != file {
			continue
		}
		from, to := strings.ReplaceAll(e.From, "DIR", m.Dir()), strings.ReplaceAll(e.To, "DIR", m.Dir())
		if !strings.Contains(text, from) {
			m.site.t.Fatalf("%s of %s lacks %q:\n%s", file, m.Name, from, text)
		}
		text = strings.ReplaceAll(text, from, to)
	}
	return m.WriteFile(file, text)
}

func (m *Member) carpdConf() string {
	router := func(name, dev string, id int, addrs ...netip.Addr) string {
		timing := fmt.Sprintf("vrrp %s { carpdev %s; vrid %d; priority %d; interval 250ms", name, dev, id, m.priority)
		if m.site.it.election() == CARP {
			timing = fmt.Sprintf("carp %s { carpdev %s; vhid %d; pass \"example\"; advbase 0; advskew %d", name, dev,
				id, 60+10*m.n)
		}
		return fmt.Sprintf("%s; address %s/32; address %s/128; group %s }\n", timing, addrs[0], addrs[1],
			scenario.Group)
	}
	return fmt.Sprintf("group %s { preempt no; require sasyncd; start-hold 300ms; alone after %s; "+
		"prepare-timeout 2s }\n", scenario.Group, m.alone) +
		router(scenario.Instance, "wan0", 10, lab.VIPOut, lab.VIPOut6) + router("inside", "lan0", 11, lab.VIPIn,
		lab.VIPIn6) +
		fmt.Sprintf("socket %q\nstatedir %q\n", m.carpdSocket(), m.Dir())
}

func (m *Member) sasyncdConf() string {
	var b strings.Builder
	vips := fmt.Sprintf("vip %s %s %s %s\n", lab.VIPOut, lab.VIPOut6, lab.VIPIn, lab.VIPIn6)
	switch m.site.it.election() {
	case Keepalived:
		fmt.Fprintf(&b, "interface ipsec\n%stracker keepalived %q\n", vips, m.Dir()+"/fifo")
	case Address:
		fmt.Fprintf(&b, "interface outside\n%stracker address\n", vips)
	case Link:
		fmt.Fprintf(&b, "interface %s\n%stracker link\n", linkName, vips)
	default:
		fmt.Fprintf(&b, "interface %s\ncarpd socket %q\n", scenario.Instance, m.carpdSocket())
	}
	for _, other := range m.site.Members {
		if other != m {
			fmt.Fprintf(&b, "peer %s\n", other.SyncAddr)
		}
	}
	fmt.Fprintf(&b, "listen on %s\nsharedkey file %q\ncontrol none\nsocket %q\nstatedir %q\n", m.SyncAddr,
		m.Dir()+"/sasyncd.key", m.socket(), m.Dir())
	return b.String()
}

func (m *Member) socket() string      { return m.Dir() + "/sasyncd.sock" }
func (m *Member) carpdSocket() string { return m.Dir() + "/carpd.sock" }

// on reports whether a daemon runs. One that is stopped does not end.
func on(d *lab.Daemon) bool { return d != nil && d.Running() }
