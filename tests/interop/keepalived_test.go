package interop

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// The router of all tests here, and its link-local address as carpd derives it.
const (
	vrid    = 51
	local6  = "fe80::200:5eff:fe00:233"
	virtual = "10.66.0.100"
	second6 = "fd66::100"
)

// keepalived runs the real one on h.
func (h *host) keepalived(priority int, interval time.Duration, six bool, options string) *lab.Daemon {
	h.t.Helper()
	addrs := virtual + "/32"
	if six {
		addrs = local6 + "/128\n" + second6 + "/128"
	}
	file := h.WriteFile("keepalived.conf", fmt.Sprintf(`global_defs {
	router_id %s
}
vrrp_instance X {
	state BACKUP
	interface eth0
	virtual_router_id %d
	priority %d
	advert_int %v
	%s
	virtual_ipaddress {
		%s
	}
}
`, h.Name, vrid, priority, interval.Seconds(), options, addrs))
	return h.Exec("keepalived", exec.Command(foreign(h.t, "keepalived"), "--dont-fork", "--log-console", "--log-detail",
		"--vrrp",
		"-f", file, "-p", filepath.Join(h.Dir(), "keepalived.pid"), "-r", filepath.Join(h.Dir(), "vrrp.pid")))
}

// has reports whether h has an address.
func (h *host) has(addr string) bool { return h.Has(netip.MustParseAddr(addr)) }

func (h *host) awaitAddr(addr string, limit time.Duration) {
	h.t.Helper()
	lab.Eventually(h.t, limit, h.Name+" has "+addr, func() bool { return h.has(addr) })
}

// Every way in which keepalived speaks VRRP, against ours: each as backup stays
// backup, takes over, yields, and hears the other resign.
func TestKeepalived(t *testing.T) {
	t.Parallel()
	const fast, slow = 250 * time.Millisecond, time.Second
	for name, tc := range map[string]struct {
		interval time.Duration
		six      bool
		theirs   string
		ours     string
	}{
		"v2": {slow, false, "version 2", "version 2"},
		"v2_password": {slow, false, "version 2\nauthentication {\nauth_type PASS\nauth_pass sekret12\n}",
			`version 2; pass "sekret12"`},
		"v3": {fast, false, "version 3", ""},
		"v3_unicast": {fast, false, "version 3\nunicast_src_ip 10.66.0.1\nunicast_peer {\n10.66.0.2\n}",
			"unicast { 10.66.0.1 }"},
		"v3_ip6": {fast, true, "version 3", ""},
		"v3_ip6_uni": {fast, true, "version 3\nunicast_src_ip fd66::1\nunicast_peer {\nfd66::2\n}",
			"unicast { fd66::1 }; hops 191"},
		"v3_vmac":      {fast, false, "version 3\nuse_vmac vmac51\nvmac_xmit_base", ""},
		"v3_vmac_both": {fast, false, "version 3\nuse_vmac vmac51", "mac virtual"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			them, us := two(t)
			vip := virtual
			if tc.six {
				vip = second6
			}
			down := 4*tc.interval + 3*time.Second // with the skew, and the machine
			ours := func(priority int) string {
				addrs := "address " + vip
				return fmt.Sprintf("group g { preempt yes }\nvrrp x { carpdev eth0; vrid %d; priority %d; interval "+
					"%v; %s; %s; group g }", vrid, priority, tc.interval, addrs, tc.ours)
			}

			d := them.keepalived(200, tc.interval, tc.six, tc.theirs)
			them.awaitAddr(vip, down+3*time.Second)
			us.carpd(ours(100))
			us.await(api.StateBackup, 10*time.Second)
			us.stays(api.StateBackup, 4*tc.interval)
			if r := us.state().Instances[0].Routers[0]; r.Received < 2 || r.Dropped > 0 {
				t.Fatalf("received %d, dropped %d", r.Received, r.Dropped)
			}
			// It resigns: only the skew remains.
			d.MayExit()
			d.Term(3 * time.Second)
			us.await(api.StateMaster, down)
			if r := us.state().Reason; r != "master resigned" {
				t.Errorf("reason %q", r)
			}
			// It returns with the higher priority: we yield.
			d = them.keepalived(200, tc.interval, tc.six, tc.theirs)
			us.await(api.StateBackup, down+3*time.Second)
			them.awaitAddr(vip, down)
			// Its cable is cut, and plugged in again.
			them.port.Pull()
			us.await(api.StateMaster, down)
			them.port.Replug()
			us.await(api.StateBackup, down+5*time.Second)
			// We return with the highest: they yield, and stay backup.
			us.d.MayExit()
			us.d.Term(3 * time.Second)
			us.carpd(ours(250))
			us.await(api.StateMaster, down+2*time.Second)
			lab.Eventually(t, down, "keepalived has yielded", func() bool { return !them.has(vip) })
			us.stays(api.StateMaster, 4*tc.interval)
			if them.has(vip) {
				t.Error("two masters")
			}
			// We resign, and they do not wait for the timer.
			began := time.Now()
			us.d.Term(3 * time.Second)
			them.awaitAddr(vip, down)
			if took := time.Since(began); tc.interval == slow && took > 2500*time.Millisecond {
				t.Errorf("keepalived took over after %v, as if we had not resigned", took)
			}
			d.MayExit()
			d.Term(3 * time.Second)
		})
	}
}
