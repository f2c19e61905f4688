package firewall

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// A connection that h1 opened and on which only h2 speaks is the hard case: no
// packet of it tells a gateway that has not seen its beginning whose it is. With
// conntrackd the gateway knows, and after two failovers too, of which the second
// is to a gateway that was down during the first.
func TestConnectionsSurviveWithConntrackd(t *testing.T) {
	p, gw1, gw2 := guarded(t)
	told := map[*scenario.Member]*lab.Daemon{}
	tracks(t, gw1, gw2)
	tracks(t, gw2, gw1)
	for _, m := range p.Members {
		told[m] = notifies(t, m)
	}
	hears(t, told[gw1], "MASTER", 1)
	hears(t, told[gw2], "BACKUP", 1)
	up := meter.StartTransfer(t, p.H1, p.H2, lab.H1Addr6, lab.H2Addr6, upload)
	down := listen(t, p, download)
	down.goesOn(t)
	knows(t, gw2)
	gw1.Off()
	gw2.WaitRole("MASTER")
	down.goesOn(t)
	hears(t, told[gw2], "MASTER", 1) // with nobody there to be told
	gw1.Run("conntrack -F")          // as by a reboot
	gw1.Return()
	tracks(t, gw1, gw2)
	knows(t, gw1) // it has asked when it started
	told[gw1] = notifies(t, gw1)
	hears(t, told[gw1], "BACKUP", 1)
	knows(t, gw1)
	p.WaitFit(gw2)
	gw2.Resign()
	gw1.WaitRole("MASTER")
	down.goesOn(t)
	// What the one forgets that has handed over, the other keeps.
	hears(t, told[gw1], "MASTER", 1)
	hears(t, told[gw2], "BACKUP", 2)
	knows(t, gw1)
	knows(t, gw2)
	down.goesOn(t)
	if err := up.Finish(limit); err != nil {
		t.Error(err)
	}
}

// tracks starts conntrackd on a gateway, with the other for its peer.
func tracks(t *testing.T, m, other *scenario.Member) {
	t.Helper()
	lock := m.Dir() + "/conntrackd.lock"
	if err := os.Remove(lock); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err) // a power cut has left it; /run is empty after a boot
	}
	conf := shipped(t, "examples/conntrackd/conntrackd.conf", map[string]string{
		`IPv4_address 10\.9\.0\.1\n(\s*)IPv4_Destination_Address 10\.9\.0\.2`: fmt.Sprintf("IPv4_address "+
			"%s\nIPv4_Destination_Address %s", m.SyncAddr, other.SyncAddr),
		`Interface eth2`:            "Interface sync0",
		`Syslog on`:                 "Syslog off",
		`/run/lock/conntrackd.lock`: lock,
		`/run/conntrackd.ctl`:       m.Dir() + "/conntrackd.ctl",
	})
	m.Exec("conntrackd", exec.Command("conntrackd", "-C", m.WriteFile("conntrackd.conf", conf)))
}

// notifies starts what carp-notify@ipsec.service starts, and returns it.
func notifies(t *testing.T, m *scenario.Member) *lab.Daemon {
	t.Helper()
	ctl, err := harness.Binary("carpctl")
	if err != nil {
		t.Fatal(err)
	}
	script := m.WriteFile("notify-ipsec", shipped(t, "examples/conntrackd/notify-ipsec", map[string]string{
		`/etc/conntrackd/conntrackd\.conf`: m.Dir() + "/conntrackd.conf",
	}))
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	return m.Exec("notify", exec.Command(ctl, "-s", m.CarpdSocket(), "notify", "--", scenario.Group, script))
}

// hears waits until the program has been told of a state for the nth time, and
// was content.
func hears(t *testing.T, notify *lab.Daemon, state string, n int) {
	t.Helper()
	lab.Eventually(t, limit, notify.Name+" to tell of "+state, func() bool {
		time.Sleep(50 * time.Millisecond)
		return strings.Count(notify.Output(), "msg=told group="+scenario.Group+" state="+state) >= n
	})
}

// knows waits until a gateway's kernel has both connections.
func knows(t *testing.T, m *scenario.Member) {
	t.Helper()
	lab.Eventually(t, limit, m.Name+" to know of the connections", func() bool {
		time.Sleep(200 * time.Millisecond)
		known := m.Run("conntrack -L -f ipv6 -p tcp")
		return strings.Contains(known, fmt.Sprintf("dport=%d", upload)) && strings.Contains(known,
			fmt.Sprintf("dport=%d", download))
	})
}

// Without conntrackd, a connection goes on as soon as the side that opened it
// speaks (net.netfilter.nf_conntrack_tcp_loose, which is on by default), and not
// before.
func TestConnectionsSurviveWithoutConntrackd(t *testing.T) {
	p, gw1, gw2 := guarded(t)
	for _, m := range p.Members {
		m.Sysctl("net/netfilter/nf_conntrack_tcp_be_liberal=1", "net/netfilter/nf_conntrack_tcp_loose=1")
	}
	up := meter.StartTransfer(t, p.H1, p.H2, lab.H1Addr6, lab.H2Addr6, upload)
	down := listen(t, p, download)
	down.goesOn(t)
	gw1.Off()
	gw2.WaitRole("MASTER")
	was := up.Bytes()
	lab.Eventually(t, limit, "the transfer of who opened the connection to go on",
		func() bool { return up.Bytes() > was })
	got := down.bytes.Load()
	was = up.Bytes()
	lab.Eventually(t, limit, "the transfer to go on further", func() bool { return up.Bytes() > was+50_000 })
	if n := down.bytes.Load(); n != got {
		t.Errorf("a connection on which only the other side speaks got %d bytes through: the page about it is wrong",
			n-got)
	}
	// One byte from h1 is enough.
	if _, err := down.conn.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	down.goesOn(t)
	if err := up.Finish(limit); err != nil {
		t.Error(err)
	}
}
