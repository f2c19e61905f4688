package ike

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// TestStrongSwanHA: with charon's own replication of IKE SAs the remote notices
// nothing of a failover. Nothing is negotiated anew, DPD is answered, and either
// side rekeys. sasyncd adds the counters, which charon does not replicate.
func TestStrongSwanHA(t *testing.T) {
	p, gw1, gw2 := bare(t)
	p.AloneAfter = time.Second
	charons := make(map[*scenario.Member]*charon)
	for i, gw := range p.Members {
		c := newCharon(t, gw.Node, fmt.Sprintf("c%d", i+1), example(t, "strongswan", "gateway", "swanctl.conf"))
		c.ha = strings.NewReplacer("10.9.0.1", gw.SyncAddr.String(), "10.9.0.2", p.Members[1-i].SyncAddr.String()).
			Replace(example(t, "strongswan", "gateway", "ha.conf"))
		charons[gw] = c
	}
	r := newCharon(t, p.RGW, "cf", strings.ReplaceAll(example(t, "strongswan", "remote", "swanctl.conf"),
		"dpd_delay = 30s", "dpd_delay = 1s"))
	r.start()
	// The second gateway joins when the tunnels are up: of two charons that start
	// in the middle of a negotiation one may be left with an IKE SA without child.
	for i, gw := range p.Members {
		charons[gw].supervise()
		startOn(t, p, gw, &stage{Node: gw.Node}, "strongswan-ha")
		waitIKE(t, gw, []string{"active", "passive"}[i])
	}
	gw1.WaitRole("MASTER")
	charons[gw2].askAgain(charons[gw1])
	requireInUse(t, gw1.Node, gw2.Node)
	p.WaitFit(gw1)

	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)
	established := strings.Count(r.log(), "established between")

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
	rekey(t, m, "after the power cut", charons[gw2], r)

	// Return: charon replicates again, and rekeys to that end; then hand-over.
	// The network is there first: charon asks the other one once, by one datagram,
	// to replicate what it has.
	gw1.PowerOn()
	charons[gw1].supervise()
	startOn(t, p, gw1, &stage{Node: gw1.Node}, "strongswan-ha")
	gw1.WaitInSync()
	waitIKE(t, gw1, "passive")
	charons[gw1].askAgain(charons[gw2])
	requireInUse(t, gw2.Node, gw1.Node)
	p.WaitFit(gw2)
	from = time.Now()
	gw2.Resign()
	gw1.WaitRole("MASTER")
	waitIKE(t, gw1, "active")
	waitIKE(t, gw2, "passive")
	flowing(t, m, rate)
	to = time.Now()
	flowing(t, m, rate/10)
	requireOneGap(t, m, "hand-over", budgetHandOver, from, to)
	rekey(t, m, "after the hand-over", charons[gw1], r)
	lab.Eventually(t, limit, "the remote's dead peer detection to be answered", func() bool {
		return strings.Contains(r.log(), "parsed INFORMATIONAL response")
	})

	m.Stop()
	w.RequireClean()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
	if n := strings.Count(r.log(), "established between") - established; n != 0 {
		t.Errorf("%d IKE SAs were negotiated after the first ones", n)
	}
	if strings.Contains(r.log(), "giving up after") {
		t.Error("the remote was left without an answer")
	}
}

// askAgain has the active charon tell the passive one c what it holds once more, if the
// first time came before c's connections were loaded: what belongs to none of them the
// plugin drops. docs/deploy-strongswan.md tells users.
func (c *charon) askAgain(active *charon) {
	c.t.Helper()
	if !strings.Contains(c.log(), "HA is missing nodes peer configuration") {
		return
	}
	if err := os.WriteFile(filepath.Join(active.run, "charon.ha"), []byte("*1\n"), 0); err != nil {
		c.t.Fatal(err)
	}
}

// requireInUse waits until a standby holds the SAs that its master's policies
// name. That charon leaves others behind when it replicates anew is not
// sasyncd's to mend.
func requireInUse(t *testing.T, master, standby *lab.Node) {
	t.Helper()
	lab.Eventually(t, limit, standby.Name+" to hold the SAs in use of "+master.Name, func() bool {
		want, err1 := scenario.ReadTables(master)
		got, err2 := scenario.ReadTables(standby)
		n := 0
		for _, p := range want.Policies {
			if m := spiOf.FindStringSubmatch(p); m != nil {
				spi, err := strconv.ParseUint(m[1], 16, 32)
				if _, ok := got.Sent[uint32(spi)]; err != nil || !ok {
					return false
				}
				n++
			}
		}
		return err1 == nil && err2 == nil && n == 2
	})
}

var spiOf = regexp.MustCompile(`spi 0x([0-9a-f]+)`)
