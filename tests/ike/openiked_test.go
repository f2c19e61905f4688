package ike

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"sasyncd/keying"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// iked is OpenIKED on a node of the lab, under what a service manager does with
// the drop-in that is shipped: started at boot, then by sasyncd alone.
type iked struct {
	stage
	conf string // path of iked.conf
}

func newIKED(t *testing.T, nd *lab.Node) *iked {
	k := &iked{stage: stage{Node: nd}}
	k.conf = k.WriteFile("iked.conf", example(t, "openiked", "gateway", "iked.conf"))
	k.programs = map[string]string{
		"iked": "exec " + k.sbin() + "/iked -f " + k.conf + ` "$@"` + "\n",
		"systemctl": `case "$*" in
show*openiked.service) cat ` + k.WriteFile("unit", unitSettings(t, "openiked.service")) + `;;
show*) echo LoadState=not-found;;
*start*openiked.service) : > /run/start;;
*) echo "what is $*?" >&2; exit 1;;
esac
`}
	return k
}

// boot starts it, and its service manager.
func (k *iked) boot(t *testing.T) {
	t.Helper()
	k.Exec("iked", exec.Command("unshare", "-m", "sh", "-c", inRun(k.Node)+`
	mkdir -p /run/systemd/system /var/lib/openiked/empty
	chmod 755 /var/lib/openiked /var/lib/openiked/empty
	: > /run/start
	while :; do
		if [ -e /run/start ]; then
			rm /run/start
			setpriv --pdeathsig KILL nice -n -15 /usr/sbin/iked -dS -f `+k.conf+`
		fi
		sleep 0.05
	done`))
	lab.Eventually(t, limit, "iked of "+k.Name+" to answer", func() bool {
		_, err := k.Try("/usr/sbin/ikectl -s " + k.run() + "/iked.sock show sa")
		return err == nil
	})
}

// crash kills all of its processes at once.
func (k *iked) crash(t *testing.T) {
	t.Helper()
	places := keying.Places()
	p := places[keying.OpenIKED]
	p.Socket = k.run() + "/iked.sock"
	places[keying.OpenIKED] = p
	if err := (&keying.Local{Places: places}).Kill(t.Context(), keying.OpenIKED); err != nil {
		t.Error(err)
	}
}

// noMoreModules has the guest's kernel know that it has all modules there are.
// Each start of iked asks for a dozen algorithms that do not exist, which takes a
// process each, and seconds in a guest; the kernel's IPsec tables are locked
// meanwhile.
func noMoreModules(t *testing.T) {
	t.Helper()
	const file = "/proc/sys/kernel/modprobe"
	if !harness.Guest() {
		return // not ours to change, and fast
	}
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, old, 0); err != nil {
			t.Error(err)
		}
	})
}

// flushBudget is how long traffic may stop while what iked's start has flushed
// is put back.
const flushBudget = 200 * time.Millisecond

// TestOpenIKED: cold start, a crash of iked on the master, a power cut, return,
// hand-over, with OpenIKED on the gateways and strongSwan at the remote end.
func TestOpenIKED(t *testing.T) {
	p, gw1, gw2 := bare(t)
	p.AloneAfter = time.Second
	k1, k2 := newIKED(t, gw1.Node), newIKED(t, gw2.Node)
	r := newCharon(t, p.RGW, "cf", example(t, "openiked", "remote", "swanctl.conf"))
	r.start()
	k1.boot(t)
	k2.boot(t)
	startOn(t, p, gw1, &k1.stage, "iked")
	gw1.WaitRole("MASTER")
	startOn(t, p, gw2, &k2.stage, "iked")
	waitIKE(t, gw1, "active")
	waitIKE(t, gw2, "passive")
	p.WaitFit(gw1)

	noMoreModules(t)
	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)

	// Power cut.
	from := time.Now()
	gw1.Off()
	gw2.WaitRole("MASTER")
	w.requireNoIKE(t, gw2.WAN, time.Time{}, from, "as a backup")
	waitIKE(t, gw2, "active")
	flowing(t, m, rate)
	to := time.Now()
	flowing(t, m, rate/10)
	requireOneGap(t, m, "power cut", scenario.BudgetPowerCut, from, to)

	// Return: its iked has flushed the SAD at its start, before sasyncd filled it.
	from = time.Now()
	k1.boot(t)
	startOn(t, p, gw1, &k1.stage, "iked")
	gw1.PowerOn()
	gw1.WaitInSync()
	p.WaitFit(gw2)
	waitIKE(t, gw1, "passive")

	// On the backup iked dies, is started again by sasyncd, and flushes.
	k1.crash(t)
	lab.Eventually(t, limit, "iked's return to be noticed on the backup",
		func() bool { return ikeStatus(t, gw1).Restarts == 1 })
	waitIKE(t, gw1, "passive")
	requireSameSAs(t, gw2.Node, gw1.Node)
	p.WaitFit(gw2)
	flowing(t, m, rate)
	to = time.Now()
	flowing(t, m, rate/10)
	requireNone(t, m, "return, iked's crash on the backup", from, to)
	w.requireNoIKE(t, gw1.WAN, from, time.Now(), "as a backup")

	// The same on the master. What its start flushes is back at once.
	from = time.Now()
	k2.crash(t)
	lab.Eventually(t, limit, "iked's return to be noticed on the master",
		func() bool { return ikeStatus(t, gw2).Restarts == 1 })
	waitIKE(t, gw2, "active")
	flowing(t, m, rate)
	to = time.Now()
	flowing(t, m, rate/10)
	requireOneGap(t, m, "iked's crash on the master", flushBudget, from, to)
	requireSameSAs(t, gw2.Node, gw1.Node)
	p.WaitFit(gw2)

	// Hand-over.
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
	requireSameSAs(t, gw1.Node, gw2.Node)
	p.WaitFit(gw1)

	m.Stop()
	w.RequireClean()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
}
