package scenario

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"sasyncd/carp/api"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// Programs are the packages that a test or program that uses a [Pair] must have
// built: pass them to harness.Build.
func Programs() []string {
	return []string{"./cmd/carpd", "./cmd/sasyncd", "./cmd/sasyncctl"}
}

// Options returns what the harness needs for a [Pair].
func Options() []harness.Option {
	return []harness.Option{harness.Build(Programs()...)}
}

// Names in the daemons' configuration.
const (
	Group    = "ipsec"   // of carpd
	Instance = "outside" // that sasyncd follows
)

// Limits of what the scenario waits for. They say that something hangs, not how
// fast it should be.
const (
	startLimit = 30 * time.Second
	roleLimit  = 20 * time.Second
	syncLimit  = 20 * time.Second
)

// Pair is two gateways, or more, that run carpd and sasyncd, in the standard lab.
type Pair struct {
	*lab.Standard
	Members []*Member
	Tunnels []lab.Tunnel
	// AloneAfter is that of the gateways' carpd.conf; set it before they start.
	AloneAfter time.Duration
	// Preempt of the same, "no" by default.
	Preempt string
	// Interval between advertisements, 250 ms by default, and StartHold, 1 s.
	Interval, StartHold time.Duration
	// Control is that of sasyncd.conf, "none" by default; DIR is the member's directory.
	Control string
	// StateDir is where the daemons keep theirs, below the member's directory.
	StateDir string
	// CarpdExtra and SasyncdExtra are further lines of the configurations.
	CarpdExtra, SasyncdExtra string
	// Peers, if it is set, is the `peer` statements of a gateway's sasyncd.conf, in place
	// of one for each other gateway.
	Peers func(*Member) string
	// Tracker is what sasyncd follows in place of carpd, as lines of its
	// configuration, and who starts it: see [Pair.Elector].
	Tracker string
	// Elector starts, with Tracker, the program that elects.
	Elector func(*Member) *lab.Daemon
	// RouterExtra is further settings of each virtual router in carpd.conf.
	RouterExtra string

	t    lab.T
	logs follower
}

// Member is a gateway of a [Pair].
type Member struct {
	*lab.Gateway
	Priority int    // of VRRP
	Key      string // as in the key file

	Carpd   *lab.Daemon // nil before the first start
	Sasyncd *lab.Daemon
	Other   *lab.Daemon // of Pair.Elector

	pair *Pair
}

// NewPair builds the lab with two gateways, and gives the tunnels to gw1 and
// to the remote gateway. Daemons are not started.
func NewPair(t lab.T) *Pair {
	t.Helper()
	return NewGateways(t, 2)
}

// NewGateways is NewPair with another number of gateways, each of lower priority
// than the one before.
func NewGateways(t lab.T, gateways int) *Pair {
	t.Helper()
	p := NewPlain(t, gateways)
	p.Tunnels = lab.Tunnels()
	lab.Install(p.Members[0].Node, p.Tunnels)
	lab.InstallRemote(p.RGW, p.Tunnels)
	return p
}

// NewPlain is NewGateways without tunnels, for a kernel without ESP: traffic
// passes as it is.
func NewPlain(t lab.T, gateways int) *Pair {
	t.Helper()
	p := &Pair{Standard: lab.NewStandard(t, gateways), AloneAfter: 10 * time.Second, Preempt: "no",
		Interval:  harness.Scaled(250 * time.Millisecond),
		StartHold: max(time.Second, harness.Scaled(250*time.Millisecond)), Control: "none", t: t}
	key := NewKey()
	for i, g := range p.Gateways {
		p.Members = append(p.Members, &Member{Gateway: g, Priority: 200 - 50*i, Key: key, pair: p})
	}
	return p
}

// NewKey returns 256 random bits as a key file has them.
func NewKey() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return "0x" + hex.EncodeToString(b)
}

// Start starts all daemons and waits until gw1 is MASTER and gw2 in sync
// with it. gw1 has the tunnels, so it is to be the first master, however slow the
// machine is: it starts alone, and need not wait for long.
func (p *Pair) Start() {
	p.t.Helper()
	first, alone := p.Members[0], p.AloneAfter
	if p.Tracker == "" {
		p.AloneAfter = min(alone, time.Second)
		first.StartDaemons()
		first.WaitRole("MASTER")
		p.AloneAfter = alone
		first.WriteFile("carpd.conf", first.carpdConf())
		if _, err := first.carpd(api.Request{Verb: api.VerbReload}); err != nil {
			p.t.Fatalf("%s: reload: %v", first.Name, err)
		}
	} else {
		first.StartDaemons()
	}
	for _, m := range p.Members[1:] {
		m.StartDaemons()
	}
	p.WaitFit(first)
}

// WaitFit waits until a failover of master would work: it is MASTER, and every
// other gateway with a running sasyncd is BACKUP and in sync with it.
func (p *Pair) WaitFit(master *Member) {
	p.t.Helper()
	master.WaitRole("MASTER")
	for _, m := range p.Members {
		if m != master && m.Sasyncd != nil && m.Sasyncd.Running() {
			m.WaitInSync()
		}
	}
	master.WaitCheck()
}

// Boot does what comes before the network and the daemons when a gateway boots:
// carpd-fence.service.
func (m *Member) Boot() {
	m.pair.t.Helper()
	if m.pair.Tracker != "" {
		return
	}
	bin, err := harness.Binary("carpd")
	if err != nil {
		m.pair.t.Fatalf("%v", err)
	}
	m.Run(bin + " -c " + m.WriteFile("carpd.conf", m.carpdConf()) + " cleanup")
}

// PowerOn plugs the cables in again, behind [Member.Boot] where carpd does not run.
func (m *Member) PowerOn() {
	m.pair.t.Helper()
	if m.Carpd == nil || !m.Carpd.Running() {
		m.Boot()
	}
	m.Gateway.PowerOn()
}

// StartDaemons boots: it starts carpd and sasyncd and waits until they answer.
func (m *Member) StartDaemons() {
	m.pair.t.Helper()
	m.Boot()
	if m.pair.Tracker != "" {
		m.Other = m.pair.Elector(m)
		m.StartSasyncd()
		m.WaitSasyncd()
		return
	}
	m.StartCarpd()
	m.WaitCarpd()
	m.StartSasyncd()
	m.WaitSasyncd()
}

// WaitCarpd waits until carpd answers.
func (m *Member) WaitCarpd() {
	m.pair.t.Helper()
	lab.Eventually(m.pair.t, startLimit, "carpd of "+m.Name+" to answer", func() bool {
		_, err := m.Elected()
		return err == nil
	})
}

// WaitSasyncd waits until sasyncd answers.
func (m *Member) WaitSasyncd() {
	m.pair.t.Helper()
	lab.Eventually(m.pair.t, startLimit, "the daemons of "+m.Name+" to answer", func() bool {
		_, err := m.Status()
		return err == nil
	})
}

// StartCarpd starts carpd. It does not wait.
func (m *Member) StartCarpd() {
	m.pair.t.Helper()
	m.Carpd = m.Daemon("carpd", "-dc", m.WriteFile("carpd.conf", m.carpdConf()))
	m.pair.logs.follow(m.Carpd)
}

// StartSasyncd starts sasyncd. It does not wait.
func (m *Member) StartSasyncd() {
	m.pair.t.Helper()
	m.WriteFile("sasyncd.key", m.Key+"\n")
	m.Sasyncd = m.Daemon("sasyncd", "-dc", m.WriteFile("sasyncd.conf", m.sasyncdConf()))
	m.pair.logs.follow(m.Sasyncd)
}

// CarpdConf is the configuration of carpd, for a drill that starts it itself.
func (m *Member) CarpdConf() string { return m.carpdConf() }

// carpdConf is the configuration of carpd. A shorter start-hold than the default
// makes nothing but the start faster. All are fit for MASTER as soon as the last
// of them has connected; the holds see to it that the first one wins.
func (m *Member) carpdConf() string {
	vrrp := func(name, dev string, id int, addrs ...netip.Addr) string {
		return fmt.Sprintf("vrrp %s { carpdev %s; vrid %d; priority %d; interval %v; address %s/32; address %s/128; "+
			"group %s; %s }\n",
			name, dev, id, m.Priority, m.pair.Interval, addrs[0], addrs[1], Group, m.pair.RouterExtra)
	}
	hold := m.pair.StartHold
	if m != m.pair.Members[0] {
		hold *= time.Duration(2*len(m.pair.Members) - 2)
	}
	return fmt.Sprintf("group %s { preempt %s; require sasyncd; start-hold %v; alone after %v; prepare-timeout %v }\n",
		Group, m.pair.Preempt, hold,
		harness.Scaled(m.pair.AloneAfter), harness.Scaled(2*time.Second)) +
		vrrp(Instance, "wan0", 10, lab.VIPOut, lab.VIPOut6) + vrrp("inside", "lan0", 11, lab.VIPIn, lab.VIPIn6) +
		fmt.Sprintf("socket %q\nstatedir %q\n%s", m.CarpdSocket(), m.State(), m.pair.CarpdExtra)
}

func (m *Member) sasyncdConf() string {
	var b strings.Builder
	follow := fmt.Sprintf("interface %s\ncarpd socket %q\n", Instance, m.CarpdSocket())
	if m.pair.Tracker != "" {
		follow = strings.ReplaceAll(m.pair.Tracker, "DIR", m.Dir())
	}
	b.WriteString(follow)
	if m.pair.Peers != nil {
		b.WriteString(m.pair.Peers(m))
	} else {
		for _, other := range m.pair.Members {
			if other != m {
				fmt.Fprintf(&b, "peer %s\n", other.SyncAddr)
			}
		}
	}
	fmt.Fprintf(&b, `listen on %s
sharedkey file %q
control %s
socket %q
statedir %q
%s`, m.SyncAddr, m.Dir()+"/sasyncd.key", strings.ReplaceAll(m.pair.Control, "DIR", m.Dir()), m.Socket(), m.State(), m.pair.SasyncdExtra)
	return b.String()
}

// Socket is the path of sasyncd's control socket.
func (m *Member) Socket() string { return m.Dir() + "/sasyncd.sock" }

// CarpdSocket is the path of carpd's.
func (m *Member) CarpdSocket() string { return m.Dir() + "/carpd.sock" }

// State is the daemons' state directory.
func (m *Member) State() string { return filepath.Join(m.Dir(), m.pair.StateDir) }

// Off is a power cut: the cables go dead, then the daemons.
func (m *Member) Off() {
	m.pair.t.Helper()
	m.PowerCut()
}

// Return starts the daemons of a gateway that was off, then plugs its cables in
// and waits until it follows the master again.
func (m *Member) Return() {
	m.pair.t.Helper()
	m.StartDaemons()
	m.PowerOn()
	m.WaitInSync()
}

// Forget empties the kernel's IPsec tables, as a reboot does.
func (m *Member) Forget() {
	m.pair.t.Helper()
	nl := m.Netlink() // a process costs a guest more
	if err := errors.Join(nl.XfrmStateFlush(netlink.XFRM_PROTO_ESP), nl.XfrmPolicyFlush()); err != nil {
		m.pair.t.Fatalf("empty tables of %s: %v", m.Name, err)
	}
}
