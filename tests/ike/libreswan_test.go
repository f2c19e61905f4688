package ike

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sasyncd/keying"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// pluto is libreswan on a node of the lab, unpacked instead of installed because
// its package excludes strongSwan's, and under what its unit does with the
// drop-in that is shipped.
type pluto struct {
	stage
	root string // libreswan of another release, with the libraries of that
	dir  string // its programs
	conf string // ipsec.conf
	p12  string // certificates for its data base, if any
}

// newPluto is libreswan of this system, or of the release that is named.
func newPluto(t *testing.T, nd *lab.Node, release string) *pluto {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", "dist", strings.TrimSuffix("libreswan-"+release, "-")))
	if err != nil {
		t.Fatal(err)
	}
	p := &pluto{stage: stage{Node: nd}, dir: filepath.Join(root, "usr", "libexec", "ipsec"),
		conf: example(t, "libreswan", "gateway", "ipsec.conf")}
	if _, err := os.Stat(p.dir); err != nil {
		t.Fatalf("libreswan is not unpacked, run: ./.ci/libreswan dist/%s %s (%v)", filepath.Base(root), release, err)
	}
	if release != "" {
		p.root = root
	}
	p.programs = map[string]string{"ipsec": "shift\nexec " + p.program("whack") + ` "$@"` + "\n"}
	return p
}

// program is the start of a command line that runs one of libreswan's programs.
func (p *pluto) program(name string) string {
	if p.root == "" {
		return p.dir + "/" + name
	}
	return p.root + "/usr/lib64/ld-linux-x86-64.so.2 --library-path " + p.root + "/usr/lib/x86_64-linux-gnu " + p.dir +
		"/" + name
}

// enterRoot is shell commands after which $in runs a program among the libraries
// of its release, under its own name.
func (p *pluto) enterRoot() string {
	if p.root == "" {
		return "in=\n"
	}
	r := p.Dir() + "/root"
	return fmt.Sprintf(`
	mkdir -p %[1]s && mount -t tmpfs root %[1]s && cd %[1]s
	mkdir -p usr etc proc dev run tmp .%[3]s && ln -s usr/lib usr/lib64 usr/bin usr/sbin .
	mount --bind %[2]s/usr usr && mount --bind %[2]s/etc etc && mount --rbind /proc proc && mount --rbind /dev dev
	mount --rbind /run run && mount --bind %[3]s .%[3]s || exit 1
	in="chroot %[1]s"
`, r, p.root, p.Dir())
}

// boot starts it, whatever happens to it: Restart=always.
func (p *pluto) boot(t *testing.T) {
	t.Helper()
	conf := p.WriteFile("ipsec.conf", p.conf)
	secrets := p.WriteFile("ipsec.secrets", example(t, "libreswan", "gateway", "ipsec.secrets"))
	nss := filepath.Join(p.Dir(), "nss")
	certificates := ""
	if p.p12 != "" {
		certificates = "pk12util -i " + p.p12 + " -d sql:" + nss + " -W '' -K '' && certutil -M -n CA -t CT,, -d sql:" +
			nss + " || exit 1"
	}
	pluto := p.dir + "/pluto"
	if p.root != "" {
		pluto = "/usr/libexec/ipsec/pluto"
	}
	guard, wait := p.guard(t, pluto)
	p.Exec("pluto", exec.Command("unshare", "-m", "sh", "-c", inRun(p.Node)+`
	mkdir -p /run/pluto `+nss+` `+p.Dir()+`/libexec
	ln -sfn `+p.dir+` `+p.Dir()+`/libexec/ipsec
	mount --bind `+p.Dir()+`/libexec /usr/libexec # where pluto has it built in
	[ -e `+nss+`/cert9.db ] || certutil -N -d sql:`+nss+` --empty-password
	`+certificates+`
	`+p.enterRoot()+`
	cd /
	while :; do
		`+guard+`
		setpriv --pdeathsig KILL nice -n -15 $in `+pluto+` --nofork --stderrlog --config `+conf+` --secretsfile `+secrets+` --nssdir `+nss+` --rundir /run/pluto --no-dnssec &
		pid=$!
		# As systemd, once it is told that pluto is ready.
		(until `+p.program("whack")+` --status >/dev/null 2>&1; do kill -0 $pid || exit; sleep 0.05; done; `+wait+`) &
		wait $pid
		echo "pluto ended with $?" >&2
		`+wait+`
		sleep 0.1
	done`))
}

// guard is what the drop-in has run before pluto starts, and after that and its end.
func (p *pluto) guard(t *testing.T, pluto string) (before, wait string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "adopt", "ipsec.service.d", "50-sasyncd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	bin, err := harness.Binary("sasyncd")
	if err != nil {
		t.Fatal(err)
	}
	if p.root != "" {
		pluto = "chroot " + p.Dir() + "/root " + pluto
	}
	ours := strings.NewReplacer("$$", "$", "/usr/libexec/ipsec/pluto", pluto, "/usr/sbin/sasyncd", bin+" -dc "+p.Dir()+
		"/sasyncd.conf")
	for line := range strings.Lines(string(b)) {
		key, cmd, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case !strings.Contains(cmd, "/usr/sbin/sasyncd"):
		case key == "ExecStartPre":
			before = ours.Replace(cmd) + " || { sleep 0.1; continue; }"
		case key == "ExecStartPost":
			wait = ours.Replace(strings.TrimPrefix(cmd, "-"))
		}
	}
	if before == "" || wait == "" {
		t.Fatal("the drop-in has no guard")
	}
	return before, wait
}

// whack tells pluto something.
func (p *pluto) whack(t *testing.T, args string) {
	t.Helper()
	if out, err := p.Try(p.program("whack") + " --ctlsocket " + p.run() + "/pluto/pluto.ctl " + args); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// await waits until it has started, its flush included.
func (p *pluto) await(t *testing.T) {
	t.Helper()
	lab.Eventually(t, 2*limit, "pluto of "+p.Name+" to answer", func() bool {
		_, err := p.Try(p.program("whack") + " --ctlsocket " + p.run() + "/pluto/pluto.ctl --status")
		return err == nil
	})
}

// crash kills it.
func (p *pluto) crash(t *testing.T) {
	t.Helper()
	places := keying.Places()
	l := places[keying.Libreswan]
	l.PIDFile = p.run() + "/pluto/pluto.pid"
	places[keying.Libreswan] = l
	if err := (&keying.Local{Places: places}).Kill(t.Context(), keying.Libreswan); err != nil {
		t.Error(err)
	}
}

// empties reports whether its start empties the SAD and the SPD, as since version 5.
func (p *pluto) empties(t *testing.T) bool {
	t.Helper()
	out, err := p.Try(p.program("pluto") + " --version")
	m := regexp.MustCompile(`Libreswan v?(\d+)\.`).FindStringSubmatch(string(out))
	if err != nil || m == nil {
		t.Fatalf("pluto does not say its version: %v\n%s", err, out)
	}
	major, err := strconv.Atoi(m[1])
	return err == nil && major >= 5
}

// requirePutBack looks at the crash of a pluto whose start empties the tables. What
// comes before they are full again is dropped, for as long as this machine takes to
// start pluto, and never sent as it is, which the end of each drill looks at.
func requirePutBack(t *testing.T, m *meter.Meter, gw *scenario.Member, from, to time.Time) {
	t.Helper()
	for _, f := range m.Flows {
		r := f.Between(from, to)
		t.Logf("pluto's crash on the master: %v", r)
		may := int((budgetRestart + min(r.Stall, slowest)).Seconds() * rate)
		if r.Lost > may || r.Sent == 0 {
			t.Errorf("pluto's crash on the master: %s lost %d of %d packets, at most %d may be", f.Name, r.Lost, r.Sent, may)
		}
	}
	if s, err := gw.Status(); err != nil || s.Counts.PoliciesBack == 0 || s.Counts.Reinserted == 0 {
		t.Errorf("%d policies and %d SAs were put back, %v: has it not flushed?", s.Counts.PoliciesBack,
			s.Counts.Reinserted, err)
	}
}

// TestLibreswan: cold start, a crash of pluto on the master, a power cut,
// return, hand-over, with libreswan on the gateways and strongSwan at the
// remote end.
func TestLibreswan(t *testing.T) { drillLibreswan(t, "") }

// TestLibreswan5 is TestLibreswan with Debian 13's, whose start empties the
// kernel's tables.
func TestLibreswan5(t *testing.T) { drillLibreswan(t, "trixie") }

func drillLibreswan(t *testing.T, release string) {
	p, gw1, gw2 := bare(t)
	p1, p2 := newPluto(t, gw1.Node, release), newPluto(t, gw2.Node, release)
	r := newCharon(t, p.RGW, "cf", example(t, "libreswan", "remote", "swanctl.conf"))
	r.start()
	// pluto's look for xfrm interfaces has the kernel load modules for ten seconds and more.
	noMoreModules(t)
	p1.boot(t)
	p2.boot(t)
	p1.await(t)
	p2.await(t)
	// One after the other: two that find each other may become MASTER in any order.
	startOn(t, p, gw1, &p1.stage, "libreswan")
	gw1.WaitRole("MASTER")
	startOn(t, p, gw2, &p2.stage, "libreswan")
	waitIKE(t, gw1, "active")
	waitIKE(t, gw2, "passive")
	p.WaitFit(gw1)

	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)

	// Pluto dies on the master: nothing is lost, and it negotiates again.
	from := time.Now()
	p1.crash(t)
	lab.Eventually(t, limit, "pluto's return to be noticed", func() bool { return ikeStatus(t, gw1).Restarts == 1 })
	waitIKE(t, gw1, "active")
	flowing(t, m, rate)
	to := time.Now()
	flowing(t, m, rate/10)
	if p1.empties(t) {
		requirePutBack(t, m, gw1, from, to)
	} else {
		requireLost(t, m, "pluto's crash on the master", from, to)
	}

	// Power cut.
	from = time.Now()
	gw1.Off()
	gw2.WaitRole("MASTER")
	w.requireNoIKE(t, gw2.WAN, time.Time{}, from, "as a backup")
	waitIKE(t, gw2, "active")
	flowing(t, m, rate)
	to = time.Now()
	flowing(t, m, rate/10)
	requireOneGap(t, m, "power cut", scenario.BudgetPowerCut, from, to)

	// Return, hand-over.
	from = time.Now()
	p1.boot(t)
	p1.await(t)
	startOn(t, p, gw1, &p1.stage, "libreswan")
	gw1.PowerOn()
	gw1.WaitInSync()
	p.WaitFit(gw2)
	waitIKE(t, gw1, "passive")
	flowing(t, m, rate)
	w.requireNoIKE(t, gw1.WAN, from, time.Now(), "as a backup")
	from = time.Now()
	gw2.Resign()
	gw1.WaitRole("MASTER")
	waitIKE(t, gw1, "active")
	waitIKE(t, gw2, "passive")
	flowing(t, m, rate)
	to = time.Now()
	flowing(t, m, rate/10)
	requireOneGap(t, m, "hand-over", budgetHandOver, from, to)
	requireSilentAfter(t, w, gw2, gw1, from)
	p.WaitFit(gw1)

	m.Stop()
	w.RequireClean()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
}
