package managers

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// site is a pair of which gw1, the MASTER, is a machine of Debian 13, and gw2 is not. A
// remote pings the virtual address outside, and hosts send to each other through the
// MASTER.
type site struct {
	t    *testing.T
	pair *scenario.Pair
	m    *machine
	vips *absence
	ping *pinger
	flow *meter.Meter
	log  string // time of the journal from which carpd's log is new
}

// rate of each flow, in packets a second.
const rate = 100

// newSite boots gw1 with files and units (which manage its network) and waits until it is
// MASTER and a failover would work. Extra is further lines of carpd.conf.
func newSite(t *testing.T, extra string, files map[string]string, units ...string) *site {
	t.Helper()
	p := scenario.NewPlain(t, 2)
	p.CarpdExtra = extra
	s := &site{t: t, pair: p}
	leases(t, p)
	first := p.Members[0]
	s.m = newMachine(t, first, files, units...)
	lab.Eventually(t, limit, "gw1 to have its addresses", func() bool {
		return first.Has(first.OutAddr) && first.Has(first.InAddr) && first.Has(first.SyncAddr) &&
			first.Has(first.OutAddr6) && first.Has(first.InAddr6)
	})
	s.m.write("/etc/carpd.conf", strings.NewReplacer(fmt.Sprintf("socket %q", first.CarpdSocket()), "",
		fmt.Sprintf("statedir %q", first.State()), "").Replace(first.CarpdConf()))
	s.m.write("/etc/sasyncd.conf", fmt.Sprintf("interface %s\npeer %s\nlisten on %s\nsharedkey file "+
		"\"/etc/sasyncd.key\"\ncontrol none\n", scenario.Instance, p.Members[1].SyncAddr, first.SyncAddr))
	s.m.write("/etc/sasyncd.key", first.Key+"\n")
	s.m.do("chown carpd: /etc/carpd.conf && systemctl enable --now carpd sasyncd 2>&1")
	p.Members[1].StartDaemons()
	first.WaitRole("MASTER")
	p.Members[1].WaitInSync()
	first.WaitCheck()
	s.vips = watchVIPs(t, first.Node)
	s.ping = ping(t, p.RGW, lab.VIPOut)
	s.flow = meter.Start(t, append(
		meter.Both(meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7000, Rate: rate}),
		meter.Both(meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr6, Dst: lab.H2Addr6, Port: 7002, Rate: rate})...)...)
	return s
}

// leases has systemd-networkd of Debian 13 serve DHCP on the WAN, from the remote
// gateway: gw1's outside address, for 20 seconds.
func leases(t *testing.T, p *scenario.Pair) {
	t.Helper()
	gw, rgw := p.Members[0], p.RGW
	conf := fmt.Sprintf(`[Match]
Name=wan0
[Network]
Address=%v/24
Address=%v/64
KeepConfiguration=yes
DHCPServer=yes
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
[DHCPServer]
PoolOffset=200
PoolSize=10
DefaultLeaseTimeSec=20
MaxLeaseTimeSec=20
EmitDNS=no
EmitNTP=no
EmitRouter=no
PersistLeases=no
[DHCPServerStaticLease]
MACAddress=%v
Address=%v
`, lab.RGWOut, lab.RGWOut6, gw.WAN.MAC, gw.OutAddr)
	script := fmt.Sprintf(`set -e
		mount --make-rprivate /
		mount --bind %[1]s %[1]s
		cd %[1]s
		mount -t tmpfs -o mode=755 run run
		mount -t tmpfs -o mode=755 lib var/lib/systemd
		mount --rbind /dev dev
		mount -t proc proc proc
		mount -t sysfs -o ro sys sys
		mkdir -p run/systemd/network run/systemd/netif/links run/systemd/netif/leases run/systemd/netif/lldp run/dbus
		chroot . chown -R systemd-network: /run/systemd/netif
		cat >run/systemd/network/10-wan.network <<'END'
%[2]sEND
		printf '[Match]\nName=*\n[Link]\nUnmanaged=yes\n' >run/systemd/network/20-rest.network
		mkdir -p run/systemd/networkd.conf.d
		printf '[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n' \
			>run/systemd/networkd.conf.d/a.conf
		exec chroot . env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_LOG_LEVEL=debug \
			/usr/lib/systemd/systemd-networkd`,
		debian13(t), conf)
	d := rgw.Exec("networkd", exec.Command("unshare", "-m", "sh", rgw.WriteFile("networkd.sh", script)))
	d.MayExit()
}

// event is one thing that is done to the MASTER's machine.
type event struct {
	what string
	do   string // shell commands
	// away says that the addresses may go, for at most a second.
	away bool
	// repaired is the kind of repair that carpd has to report, "" for none.
	repaired string
	// moves says that the mastership goes to gw2, which is right: the interface goes down.
	moves bool
	// lost is how many packets of a hundred a second may be lost.
	lost int
}

// result is a row of the table.
func (s *site) row(e event) string {
	s.t.Helper()
	s.settle()
	s.vips.take()
	s.ping.take()
	before := s.terms()
	repairs := s.repairs()
	cursor := s.m.do("date +%s.%N")
	from := time.Now()
	out, err := s.m.try("(" + e.do + ") 2>&1")
	if err != nil {
		s.t.Errorf("%s: %v\n%s", e.what, err, out)
	}
	took := time.Since(from)
	// Programs act after their command has returned, too: a lease comes back, a rule set
	// is loaded. Three looks of carpd's repair are time for it.
	lab.Eventually(s.t, limit, "time after "+e.what, func() bool {
		time.Sleep(50 * time.Millisecond)
		return time.Since(from) > took+3*time.Second
	})
	to := time.Now()
	times, away := s.vips.take()
	sent, got, gap := s.ping.take()
	flow := s.flow.Between(from, to)
	moved := s.terms() != before
	var what []string
	for kind, n := range s.repairs() {
		if d := n - repairs[kind]; d > 0 {
			what = append(what, fmt.Sprintf("%s %d", kind, d))
		}
	}
	said := s.m.do("journalctl --no-pager -o cat -u carpd -u sasyncd -p warning --since @" + cursor + " | head -20")
	s.t.Logf("ROW | %s | VIPs went %d times, longest %d ms | ping sent %d, unanswered %d, gap %d ms | forwarded sent %d, "+
		"lost %d, gap %d ms | moved %v | repairs %s\ncommand said: %s\ncarpd, sasyncd said:\n%s", e.what, times,
		away.Milliseconds(), sent, sent-got, gap.Milliseconds(), flow.Sent, flow.Lost, flow.Gap.Milliseconds(), moved,
		strings.Join(what, ", "), strings.TrimSpace(out), said)
	if moved != e.moves {
		s.t.Errorf("%s: the mastership moved: %v, want %v", e.what, moved, e.moves)
	}
	if !e.moves {
		if times > 0 && !e.away {
			s.t.Errorf("%s took virtual addresses away", e.what)
		}
		if away > time.Second {
			s.t.Errorf("%s: a virtual address was away for %v", e.what, away)
		}
		if lost := sent - got; lost > e.lost+1 {
			s.t.Errorf("%s: %d of %d pings of the virtual address were not answered", e.what, lost, sent)
		}
	}
	if e.repaired != "" && !strings.Contains(strings.Join(what, ","), e.repaired+" ") {
		s.t.Errorf("%s: carpd reports repairs %v, want of %s", e.what, what, e.repaired)
	}
	return ""
}

// settle waits until gw1 is MASTER and a failover would work.
func (s *site) settle() {
	s.t.Helper()
	first, second := s.pair.Members[0], s.pair.Members[1]
	if g, err := second.Elected(); err == nil && g.State == api.StateMaster {
		first.WaitInSync()
		second.WaitCheck()
		second.Resign()
	}
	first.WaitRole("MASTER")
	second.WaitInSync()
	first.WaitCheck()
	lab.Eventually(s.t, limit, "gw1 to have all addresses", func() bool {
		for _, ip := range vips {
			if !first.Has(ip) {
				return false
			}
		}
		return true
	})
	n := s.flow.Received()
	lab.Eventually(s.t, limit, "traffic on each flow", func() bool { return s.flow.Received() > n+rate/10 })
}

// terms are the terms and states of both.
func (s *site) terms() string {
	s.t.Helper()
	var b strings.Builder
	for _, m := range s.pair.Members {
		g, err := m.Elected()
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s %d; ", m.Name, g.State, g.Term)
	}
	return b.String()
}

// repairs are those that carpd of gw1 has counted, by their kind.
func (s *site) repairs() map[string]uint64 {
	s.t.Helper()
	g, err := s.pair.Members[0].Elected()
	if err != nil {
		s.t.Fatal(err)
	}
	list := map[string]uint64{}
	for _, r := range g.Repairs {
		list[r.Kind] = r.Count
	}
	return list
}

func (s *site) rows(list []event) {
	s.t.Helper()
	for _, e := range list {
		s.row(e)
	}
}
