package drills

import (
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// The demo, as a test: power cut, return and hand-over, twice, under traffic.
func TestFailover(t *testing.T) {
	r := scenario.Run(t, nil)
	var table strings.Builder
	if err := r.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
	for _, m := range r.Missed() {
		t.Error(m)
	}
}

// A carpd that is killed can neither resign nor take its addresses back. The
// surviving sasyncd sets the fence, so that there is never a second sender.
func TestCarpdKilledOnMaster(t *testing.T) {
	p, gw1, gw2 := started(t)
	m, c := traffic(t, p)
	flowing(t, m, rate)
	start := time.Now()
	gw1.Carpd.Kill()
	gw1.Sasyncd.WaitLog("fence set", limit)
	gw2.WaitRole("MASTER")
	taken := time.Now()
	flowing(t, m, 3*rate) // beyond the lease of gw1's addresses
	end := time.Now()

	if r := m.Between(start, end); r.Gap > scenario.BudgetPowerCut {
		t.Errorf("%v", r)
	}
	before, err := gw2.Elected()
	if err != nil || before.State != "master" {
		t.Errorf("gw2 is %q, want master: %v", before.State, err)
	}
	out := gw1.Run("ip -o addr")
	for _, vip := range before.Addresses() {
		if strings.Contains(out, " "+vip.String()+"/") {
			t.Errorf("%v is still on gw1, whose carpd is dead", vip)
		}
	}
	// A killed carpd's gateway learns of the loss of its role when it is back.
	gw1.StartCarpd()
	p.WaitFit(gw2)
	requireMaster(t, p, gw2)
	flowing(t, m, rate)
	m.Stop()
	c.RequireClean()
	if n := c.Between(taken, time.Now(), gw1.WAN).ESP; n != 0 {
		t.Errorf("gw1 sent %d ESP packets after gw2 had taken over", n)
	}
	requireNothingRefused(t, p)
}

// sasyncd is not needed for traffic to flow: its death changes nothing, and its
// return neither.
func TestSasyncdKilledOnMaster(t *testing.T) {
	p, gw1, gw2 := started(t)
	m, c := traffic(t, p)
	flowing(t, m, rate)
	before := tables(t, gw1)

	// carpd waits 8 s for its sasyncd, then it hands over. So nothing is read while there
	// is none: what was removed meanwhile would be a repair below.
	gw1.Sasyncd.Kill()
	lab.Eventually(t, 6*time.Second, "gw2 to have lost gw1's sasyncd", func() bool {
		s, err := gw2.Status()
		return err == nil && len(s.Members) == 0
	})
	gw1.StartSasyncd()
	p.WaitFit(gw1)
	flowing(t, m, 3*rate) // a few of its rounds
	requireEqual(t, before, tables(t, gw1), "gw1 before", "gw1 with sasyncd back")
	requireEqual(t, before, tables(t, gw2), "gw1 before", "gw2 with gw1's sasyncd back")
	requireMaster(t, p, gw1)
	for _, g := range []*scenario.Member{gw1, gw2} {
		s, err := g.Status()
		if err != nil {
			t.Fatal(err)
		}
		if s.Counts.Repairs != 0 || s.Counts.KernelErrors != 0 || s.Counts.DigestMismatches != 0 {
			t.Errorf("%s: %d repairs, %d kernel errors, %d digest mismatches, want none", g.Name,
				s.Counts.Repairs, s.Counts.KernelErrors, s.Counts.DigestMismatches)
		}
	}
	m.Stop()
	if r := m.Total(); r.Lost != 0 {
		t.Errorf("%v", r)
	}
	c.RequireClean()
	requireNothingRefused(t, p)
}

// When sasyncd does not return, the master hands over to a gateway that has
// one: the longer it waits, the less its peers' counters are worth.
func TestSasyncdStaysDeadOnMaster(t *testing.T) {
	p := scenario.NewPair(t)
	p.AloneAfter = 2 * time.Second
	p.Start()
	gw1, gw2 := p.Members[0], p.Members[1]
	m, c := traffic(t, p)
	flowing(t, m, rate)
	before := tables(t, gw1)
	start := time.Now()
	gw1.Sasyncd.Kill()
	gw2.WaitRole("MASTER")
	flowing(t, m, rate)
	end := time.Now()
	// Nobody tells gw2 to take over at once, so it waits for the skew time of its
	// priority: 106/256 of 250 ms.
	if r := m.Between(start, end); r.Gap > scenario.BudgetHandOver+100*time.Millisecond {
		t.Errorf("%v", r)
	}
	requireEqual(t, before, tables(t, gw1), "gw1 before", "gw1 without sasyncd")

	// Nobody is left to hand over to.
	gw2.Sasyncd.Kill()
	flowing(t, m, int((p.AloneAfter+time.Second).Seconds())*rate)
	requireMaster(t, p, gw2)
	requireEqual(t, before, tables(t, gw2), "gw1 before", "gw2 without sasyncd")
	m.Stop()
	c.RequireClean()
	requireNothingRefused(t, p)
}

// A sasyncd that is told to stop leaves everything where it is.
func TestSasyncdStoppedOnBackup(t *testing.T) {
	p, gw1, gw2 := started(t)
	before := tables(t, gw1)
	if code := gw2.Sasyncd.Term(limit); code != 0 {
		t.Errorf("exit code %d", code)
	}
	requireEqual(t, before, tables(t, gw2), "gw1", "gw2 after its sasyncd was stopped")
	requireMaster(t, p, gw1)
	gw2.StartSasyncd()
	p.WaitFit(gw1)
	requireEqual(t, before, tables(t, gw2), "gw1", "gw2 with sasyncd back")
}

// A carpd that is told to stop hands over.
func TestCarpdStoppedOnMaster(t *testing.T) {
	p, gw1, gw2 := started(t)
	m, c := traffic(t, p)
	flowing(t, m, rate)
	start := time.Now()
	if code := gw1.Carpd.Term(limit); code != 0 {
		t.Errorf("exit code %d", code)
	}
	flowing(t, m, rate)
	gw2.WaitRole("MASTER")
	end := time.Now()
	if r := m.Between(start, end); r.Gap > scenario.BudgetHandOver {
		t.Errorf("%v", r)
	}
	m.Stop()
	c.RequireClean()
	requireNothingRefused(t, p)
	out := gw1.Run("ip -o addr")
	for _, vip := range []string{lab.VIPIn.String(), lab.VIPOut.String(), lab.VIPIn6.String(), lab.VIPOut6.String()} {
		if strings.Contains(out, " "+vip+"/") {
			t.Errorf("%s is still on gw1, whose carpd has ended", vip)
		}
	}
}
