package replication

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// planned is what is looked at of an order's preview, which docs/json.md describes.
type planned struct {
	Answer    string
	Handovers []struct {
		To    []struct{ Peer, Host string }
		Check struct{ Reasons []struct{ Code string } }
	}
}

// examination is what is looked at of doctor's answer.
type examination struct {
	Gateways []struct {
		Name     string
		Findings []struct{ Code, Severity, What string }
	}
	Elsewhere int
}

// print logs what a person would see.
func (o *operator) print(m *scenario.Member, args ...string) {
	o.t.Helper()
	// the code is asked for elsewhere
	out, _ := exec.Command(o.bin, append([]string{"-s", m.Socket()}, args...)...).CombinedOutput()
	o.t.Logf("%s# sasyncctl %s\n%s", m.Name, strings.Join(args, " "), out)
}

// TestOrderIsJudged: failover is refused for what check finds, begins nothing then, and
// -n tells the same without doing anything. Once the cause is gone, check -w sees it,
// and the order works.
func TestOrderIsJudged(t *testing.T) {
	o := newOperator(t)
	p := scenario.NewGateways(t, 2)
	p.Start()
	gw1, gw2 := p.Members[0], p.Members[1]
	waitAble(t, p, gw1)
	name := gw2.SyncAddr.String()
	if code := o.ask(gw1, "check", nil, "check", "-w", "30"); code != 0 {
		t.Fatalf("check -w: code %d", code)
	}

	var plan planned
	if code := o.ask(gw1, "plan", &plan, "failover", "--dry-run"); code != 0 || len(plan.Handovers) != 1 ||
		len(plan.Handovers[0].To) != 1 || plan.Handovers[0].To[0].Peer != name {
		t.Errorf("dry run: code %d, %+v", code, plan)
	}
	var no struct{ Error string }
	if code := o.ask(gw2, "error", &no, "failover", "--dry-run"); code != 1 || !strings.Contains(no.Error,
		gw1.SyncAddr.String()) {
		t.Errorf("dry run on a backup: code %d, %q", code, no.Error)
	}

	var x examination
	for _, m := range p.Members {
		if code := o.ask(m, "examination", &x, "doctor", "-a"); code != 0 || len(x.Gateways) != 2 {
			t.Errorf("doctor of a healthy pair: code %d, %+v", code, x)
		}
	}
	o.print(gw1, "failover", "-n")

	gw2.Carpd.Kill()
	// A gateway reports once a second; before, nobody else can know.
	lab.Eventually(t, 10*time.Second, "gw1 to hear that carpd of gw2 is gone",
		func() bool { return o.ask(gw1, "check", nil, "check") == 1 })
	if code := o.ask(gw1, "error", &no, "failover"); code != 1 || !strings.Contains(no.Error,
		name+": the election cannot be reached") || !strings.Contains(no.Error, "remedy: ") {
		t.Errorf("failover to a gateway without carpd: code %d, %q", code, no.Error)
	}
	if code := o.ask(gw1, "plan", &plan, "failover", "-n"); code != 1 || len(plan.Handovers[0].Check.Reasons) == 0 ||
		plan.Handovers[0].Check.Reasons[0].Code != "elector-lost" {
		t.Errorf("dry run: code %d, %+v", code, plan)
	}
	if code := o.ask(gw2, "examination", &x, "doctor"); code != 1 || x.Gateways[0].Findings[0].Code != "elector-lost" {
		t.Errorf("doctor without carpd: code %d, %+v", code, x)
	}
	if code := o.ask(gw1, "examination", &x, "doctor"); code != 0 || x.Elsewhere == 0 {
		t.Errorf("doctor on the other gateway: code %d, %+v", code, x)
	}
	if code := o.ask(gw1, "examination", &x, "doctor", "-a"); code != 1 || x.Gateways[1].Name != name ||
		x.Gateways[1].Findings[0].Code != "elector-lost" {
		t.Errorf("doctor -a on the other gateway: code %d, %+v", code, x)
	}
	o.print(gw1, "failover", "-n")
	o.print(gw1, "doctor", "-a")
	o.print(gw1, "status")
	var s status
	if o.ask(gw1, "status", &s, "status"); s.Groups[0].Role != "MASTER" || s.Groups[0].LastFailover != nil &&
		s.Groups[0].LastFailover.From == "this node" {
		t.Errorf("something was begun: %+v", s.Groups[0])
	}

	gw2.StartCarpd()
	if code := o.ask(gw1, "check", nil, "check", "-w", "30"); code != 0 {
		t.Errorf("check -w after the repair: code %d", code)
	}
	var r failover
	if code := o.ask(gw1, "failover", &r, "failover"); code != 0 || len(r.Handovers) != 1 || !r.Handovers[0].OK ||
		r.Handovers[0].To != name {
		t.Errorf("failover after the repair: code %d, %+v", code, r)
	}
}
