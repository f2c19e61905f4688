package interop

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// frr is FRR's vrrpd with the zebra that it needs, as two processes.
type frr struct{ zebra, vrrpd *lab.Daemon }

// frr runs the real ones on h. FRR finds its virtual routers by macvlans with
// the protocol's MAC, which it takes up as master.
func (h *host) frr(priority int, interval time.Duration, six bool) frr {
	h.t.Helper()
	name, mac, vip, family := "vm4", fmt.Sprintf("00:00:5e:00:01:%02x", vrid), virtual+"/24", "ip"
	if six {
		name, mac, vip, family = "vm6", fmt.Sprintf("00:00:5e:00:02:%02x", vrid), second6+"/64", "ipv6"
	}
	if _, err := h.Try("ip link show " + name); err != nil {
		h.IP("link add "+name+" link eth0 type macvlan mode bridge",
			"link set dev "+name+" address "+mac, "link set dev "+name+" addrgenmode none")
		if six {
			h.IP("addr add " + local6 + "/64 dev " + name + " nodad")
		}
		h.IP("addr add "+vip+" dev "+name, "link set dev "+name+" up")
	}
	addr, _, _ := strings.Cut(vip, "/")
	if six {
		// The first address has to be link-local; FRR does not see to that.
		addr = fmt.Sprintf("%s\n vrrp %d ipv6 %s", local6, vrid, addr)
	}
	dir := frrDir(h.t)
	file := filepath.Join(dir, "vrrpd.conf")
	config := fmt.Sprintf(`interface eth0
 vrrp %d version 3
 vrrp %d priority %d
 vrrp %d advertisement-interval %d
 vrrp %d %s %s
`, vrid, vrid, priority, vrid, interval.Milliseconds(), vrid, family, addr)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		h.t.Fatal(err)
	}
	socket := filepath.Join(dir, "zserv.api")
	args := func(config, pid string) []string {
		return []string{"-u", "frr", "-g", "frr", "-f", config, "-z", socket, "-i", filepath.Join(dir, pid),
			"-P", "0", "--vty_socket", dir, "--log", "stdout"}
	}
	f := frr{}
	f.zebra = h.Exec("zebra", exec.Command(foreign(h.t, "zebra"), args("/dev/null", "zebra.pid")...))
	lab.Eventually(h.t, 5*time.Second, "zebra listens",
		func() bool { _, err := h.Try("test -S " + socket); return err == nil })
	f.vrrpd = h.Exec("vrrpd", exec.Command(foreign(h.t, "vrrpd"), args(file, "vrrpd.pid")...))
	return f
}

// frrDir makes a directory for FRR's user, which it insists on being.
func frrDir(t *testing.T) string {
	t.Helper()
	who, err := user.Lookup("frr")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	dir, err := os.MkdirTemp("", "frr")
	if err == nil {
		err = os.Chown(dir, uid, gid)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (f *frr) term() {
	f.vrrpd.MayExit()
	f.zebra.MayExit()
	f.vrrpd.Term(3 * time.Second)
	f.zebra.Term(3 * time.Second)
}

// FRR's vrrpd against ours: each as backup stays backup, takes over, yields, and
// resigns.
func TestFRR(t *testing.T) {
	t.Parallel()
	const interval = 250 * time.Millisecond
	for name, six := range map[string]bool{"v3": false, "v3_ip6": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			them, us := two(t)
			vip := virtual
			if six {
				vip = second6
			}
			down := 4*interval + 3*time.Second
			ours := func(priority int) string {
				return fmt.Sprintf("group g { preempt yes }\nvrrp x { carpdev eth0; vrid %d; priority %d; interval "+
					"%v; address %s; group g }", vrid, priority, interval, vip)
			}
			// Heard tells what FRR does by what arrives here.
			heard := func() uint64 { return us.state().Instances[0].Routers[0].Received }

			f := them.frr(200, interval, six)
			us.carpd(ours(100))
			us.await(api.StateBackup, down+3*time.Second)
			lab.Eventually(t, 5*time.Second, "FRR is heard", func() bool { return heard() > 2 })
			us.stays(api.StateBackup, 4*interval)
			if r := us.state().Instances[0].Routers[0]; r.Dropped > 0 {
				t.Fatalf("dropped: %+v", r)
			}
			f.term()
			us.await(api.StateMaster, down)
			f = them.frr(200, interval, six)
			us.await(api.StateBackup, down+5*time.Second)
			// Cut.
			them.port.Pull()
			us.await(api.StateMaster, down)
			them.port.Replug()
			us.await(api.StateBackup, down+5*time.Second)
			// We return as the better one: FRR yields and is silent.
			us.d.MayExit()
			us.d.Term(3 * time.Second)
			us.carpd(ours(250))
			us.await(api.StateMaster, down+2*time.Second)
			before := heard()
			us.stays(api.StateMaster, 4*interval)
			if n := heard() - before; n > 1 {
				t.Errorf("FRR advertises on: %d", n)
			}
			// We give way: FRR takes over.
			if out, err := us.Try(program(t, "carpctl") + " -s " + us.socket() + " resign g"); err != nil {
				t.Fatalf("resign: %v %s", err, out)
			}
			before = heard()
			lab.Eventually(t, down+2*time.Second, "FRR is master", func() bool { return heard() > before })
			f.term()
		})
	}
}
