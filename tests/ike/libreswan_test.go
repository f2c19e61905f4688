package ike

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sasyncd/keying"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// pluto is libreswan on a node of the lab, unpacked instead of installed because
// its package excludes strongSwan's, and under what its unit does with the
// drop-in that is shipped.
type pluto struct {
	stage
	programsDir string
	conf        string // ipsec.conf
	p12         string // certificates for its data base, if any
}

func newPluto(t *testing.T, nd *lab.Node) *pluto {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "dist", "libreswan", "usr", "libexec", "ipsec"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("libreswan is not unpacked, run: ./.ci/libreswan dist/libreswan (%v)", err)
	}
	p := &pluto{stage: stage{Node: nd}, programsDir: dir, conf: example(t, "libreswan", "gateway", "ipsec.conf")}
	p.programs = map[string]string{"ipsec": "shift\nexec " + dir + `/whack "$@"` + "\n"}
	return p
}

// boot starts it, whatever happens to it: Restart=always.
func (p *pluto) boot(t *testing.T) {
	t.Helper()
	conf := p.WriteFile("ipsec.conf", p.conf)
	secrets := p.WriteFile("ipsec.secrets", example(t, "libreswan", "gateway", "ipsec.secrets"))
	nss := filepath.Join(p.Dir(), "nss")
	certificates := ""
	if p.p12 != "" {
		certificates = "pk12util -i " + p.p12 + " -d sql:" + nss + " -W '' -K '' && certutil -M -n CA -t CT,, -d sql:" + nss + " || exit 1"
	}
	p.Exec("pluto", exec.Command("unshare", "-m", "sh", "-c", inRun(p.Node)+`
	mkdir -p /run/pluto `+nss+` `+p.Dir()+`/libexec
	ln -sfn `+p.programsDir+` `+p.Dir()+`/libexec/ipsec
	mount --bind `+p.Dir()+`/libexec /usr/libexec # where pluto has it built in
	[ -e `+nss+`/cert9.db ] || certutil -N -d sql:`+nss+` --empty-password
	`+certificates+`
	cd `+p.programsDir+`
	while :; do
		setpriv --pdeathsig KILL nice -n -15 ./pluto --nofork --stderrlog --config `+conf+` --secretsfile `+secrets+` --nssdir `+nss+` --rundir /run/pluto --no-dnssec &
		pid=$!
		wait $pid
		echo "pluto ended with $?" >&2
		sleep 0.1
	done`))
}

// whack tells pluto something.
func (p *pluto) whack(t *testing.T, args string) {
	t.Helper()
	if out, err := p.Try(p.programsDir + "/whack --ctlsocket " + p.run() + "/pluto/pluto.ctl " + args); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
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

// TestLibreswan: cold start, a crash of pluto on the master, a power cut,
// return, hand-over, with libreswan on the gateways and strongSwan at the
// remote end.
func TestLibreswan(t *testing.T) {
	p, gw1, gw2 := bare(t)
	p1, p2 := newPluto(t, gw1.Node), newPluto(t, gw2.Node)
	r := newCharon(t, p.RGW, "cf", example(t, "libreswan", "remote", "swanctl.conf"))
	r.start()
	p1.boot(t)
	p2.boot(t)
	startOn(t, p, gw1, &p1.stage, "libreswan")
	startOn(t, p, gw2, &p2.stage, "libreswan")
	gw1.WaitRole("MASTER")
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
	requireLost(t, m, "pluto's crash on the master", from, to)

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
	requireOneGap(t, m, "hand-over", scenario.BudgetHandOver, from, to)
	requireSilentAfter(t, w, gw2, gw1, from)
	p.WaitFit(gw1)

	m.Stop()
	w.RequireClean()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
}
