package drills

import (
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// carpd is replaced on the master, ended in order and killed: nobody takes over,
// sasyncd sees no change of role and does not set the fence, and traffic flows.
// When it does not come back in time, it has died.
func TestCarpdUpgraded(t *testing.T) {
	p, gw1, gw2 := started(t)
	m, c := traffic(t, p)
	flowing(t, m, rate)
	before, err := gw1.Elected()
	if err != nil {
		t.Fatal(err)
	}
	// roles counts what sasyncd has done about its role.
	roles := func(g *scenario.Member) int {
		out := g.Sasyncd.Output()
		return strings.Count(out, " role ") + strings.Count(out, "fence set") + strings.Count(out, "elector lost")
	}
	was1, was2 := roles(gw1), roles(gw2)
	if was1 == 0 || was2 == 0 {
		t.Fatal("the log does not tell roles")
	}
	for i, how := range []string{"in order", "killed"} {
		gw1.Freeze(8 * time.Second)
		lab.Eventually(t, limit, "sasyncd to know of the restart", func() bool {
			return strings.Count(gw1.Sasyncd.Output(), "carpd is about to be restarted") == i+1
		})
		if how == "killed" {
			gw1.Carpd.Kill()
		} else if code := gw1.Carpd.Term(limit); code != 0 {
			t.Errorf("exit code %d", code)
		}
		flowing(t, m, 2*rate) // longer than a down interval
		gw1.StartCarpd()
		gw1.Carpd.WaitLog("mastership continued after a restart", limit)
		p.WaitFit(gw1)
		flowing(t, m, rate)
		after, err := gw1.Elected()
		if err != nil || after.State != "master" || after.Term != before.Term {
			t.Errorf("%s: %s in term %d, was master in term %d: %v", how, after.State, after.Term, before.Term, err)
		}
		if roles(gw1) != was1 || roles(gw2) != was2 {
			t.Errorf("%s: the role changed:\n%s\n%s", how, gw1.Sasyncd.Output(), gw2.Sasyncd.Output())
		}
		requireMaster(t, p, gw1)
		if s, err := gw1.Status(); err != nil || s.Counts.Takeovers != 1 {
			t.Errorf("%s: sasyncd took over %d times, want once: %v", how, s.Counts.Takeovers, err)
		}
	}
	// Less than any takeover by a timer takes.
	if quiet := m.Total(); quiet.Gap > 250*time.Millisecond {
		t.Errorf("restarts of carpd: %v", quiet)
	}
	if n := c.Between(time.Time{}, time.Now(), gw2.WAN).ESP; n != 0 {
		t.Errorf("gw2 sent %d ESP packets", n)
	}

	gw1.Freeze(2 * time.Second)
	gw1.Carpd.Kill()
	died := time.Now()
	gw1.Sasyncd.WaitLog("fence set", limit)
	if took := time.Since(died); took < time.Second {
		t.Errorf("the fence was set after %v, carpd was to be back within 2 s", took)
	}
	gw2.WaitRole("MASTER")
	gw1.StartCarpd()
	p.WaitFit(gw2)
	requireMaster(t, p, gw2)
	flowing(t, m, rate)
	m.Stop()
	c.RequireClean()
	requireNothingRefused(t, p)
	lab.Eventually(t, limit, "gw1 is BACKUP for sasyncd too",
		func() bool { return strings.Contains(gw1.Sasyncd.Output(), "to=BACKUP") })
}
