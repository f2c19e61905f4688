package replication

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sasyncd/carp/api"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/compare"
	"sasyncd/sync/engine"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/jsondoc"
	"sasyncd/tests/scenario"
)

// What is looked at of the answers, which docs/json.md describes.
type (
	status struct {
		engine.Status
		Peers []struct{ Name string }
		Check struct{ Fit bool }
	}
	diff   struct{ Differences []compare.Difference }
	resync struct {
		Transfers []struct {
			engine.Transfer
			Complete bool
		}
	}
	failover struct {
		Handovers []struct {
			To      string
			OK      bool
			Error   string
			Gap     float64  `json:"gap_seconds"`
			Took    float64  `json:"took_seconds"`
			Holding []string `json:"held_back"`
			Unasked int
		}
	}
)

// operator runs sasyncctl -j on gateways and holds what it prints against
// docs/json.md.
type operator struct {
	t   *testing.T
	doc jsondoc.Doc
	bin string
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	doc, err := jsondoc.Read()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := harness.Binary("sasyncctl")
	if err != nil {
		t.Fatal(err)
	}
	return &operator{t, doc, bin}
}

// ask runs one command and decodes what it prints.
func (o *operator) ask(m *scenario.Member, section string, v any, args ...string) (code int) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.bin, append([]string{"-j", "-s", m.Socket()}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		o.t.Fatalf("%s: sasyncctl %v: %v", m.Name, args, err)
	}
	if err := o.doc.Check(section, out.Bytes()); err != nil {
		o.t.Fatalf("%s: sasyncctl %v: code %d: %v\n%s%s", m.Name, args, code, err, &out, &errs)
	}
	if v != nil {
		if err := json.Unmarshal(out.Bytes(), v); err != nil {
			o.t.Fatalf("%s: sasyncctl %v: %v", m.Name, args, err)
		}
	}
	return code
}

// TestOperator has an operator look at three gateways, and move mastership to the
// one that is named, which is not the one that the election would choose.
func TestOperator(t *testing.T) {
	o := newOperator(t)
	p := scenario.NewGateways(t, 3)
	p.Start()
	gw1, gw2, gw3 := p.Members[0], p.Members[1], p.Members[2]
	waitAble(t, p, gw1)
	name := func(m *scenario.Member) string { return m.SyncAddr.String() }

	t.Run("look", func(t *testing.T) {
		o.t = t
		var s status
		for _, m := range p.Members {
			if o.ask(m, "status", &s, "status"); len(s.Peers) != 2 || len(s.Members) != 2 || !s.Check.Fit {
				t.Errorf("%s: %+v", m.Name, s)
			}
			if code := o.ask(m, "check", nil, "check"); code != 0 {
				t.Errorf("%s: check: code %d", m.Name, code)
			}
			o.ask(m, "peers", nil, "peers")
			o.ask(m, "show", nil, "show")
		}
	})
	t.Run("status on a terminal", func(t *testing.T) {
		for _, m := range []*scenario.Member{gw1, gw2} {
			out, err := exec.Command(o.bin, "-s", m.Socket(), "status").Output()
			lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			if err != nil || len(lines) < 5 || len(lines) > 24 || slices.ContainsFunc(lines,
				func(l string) bool { return utf8.RuneCountInString(l) > 80 }) {
				t.Errorf("%v, %d lines", err, len(lines))
			}
			t.Logf("\n%s", out)
		}
	})
	t.Run("diff", func(t *testing.T) {
		o.t = t
		var d diff
		var took time.Duration
		for _, m := range []*scenario.Member{gw1, gw3} {
			began := time.Now()
			if code := o.ask(m, "diff", &d, "diff", name(gw2)); code != 0 || len(d.Differences) != 0 {
				t.Errorf("%s and gw2 differ: code %d, %+v", m.Name, code, d)
			}
			took = time.Since(began)
		}
		// While a deletion is held back, for 2 s, the standby has what the master has
		// not. It ends when it comes back, so that nothing is lost. Where a command
		// takes longer than that, the deletion comes while it runs.
		k, sa := findSA(t, gw1, p.Tunnels[0].SPIOut)
		change := func(kind sadb.OpKind) error {
			return errors.Join(k.Apply(t.Context(), []sadb.Op{{Kind: kind, SA: sa}})...)
		}
		tries := 1
		if harness.Slow() > 1 {
			tries = 10
		}
		code := 0
		for try := 0; code == 0 && try < tries; try++ {
			deleted := make(chan error, 1)
			if try == 0 {
				deleted <- change(sadb.OpDeleteSA)
			} else {
				time.AfterFunc(took*time.Duration(try)/time.Duration(tries),
					func() { deleted <- change(sadb.OpDeleteSA) })
			}
			code = o.ask(gw1, "diff", &d, "diff", name(gw2))
			if err := errors.Join(<-deleted, change(sadb.OpAddSA)); err != nil {
				t.Fatal(err)
			}
		}
		if code != 1 || len(d.Differences) != 1 || d.Differences[0].How != "missing" ||
			d.Differences[0].Item != sa.Key.String() {
			t.Errorf("code %d, %+v", code, d)
		}
		p.WaitFit(gw1)
	})
	t.Run("resync", func(t *testing.T) {
		o.t = t
		var before, after [3]engine.Status
		look := func(s *[3]engine.Status) {
			for i, m := range p.Members {
				var err error
				if s[i], err = m.Status(); err != nil {
					t.Fatal(err)
				}
			}
		}
		received := func(i int) uint64 { return after[i].Counts.SnapshotsReceived - before[i].Counts.SnapshotsReceived }
		var r resync
		look(&before)
		if code := o.ask(gw2, "resync", &r, "resync", name(gw1)); code != 0 || len(r.Transfers) != 1 ||
			!r.Transfers[0].Complete || r.Transfers[0].Push {
			t.Errorf("fetch: code %d, %+v", code, r)
		}
		if look(&after); received(1) != 1 || received(2) != 0 {
			t.Errorf("fetch: gw2 received %d snapshots, gw3 %d", received(1), received(2))
		}
		look(&before)
		if code := o.ask(gw1, "resync", &r, "resync", name(gw3)); code != 0 || len(r.Transfers) != 1 ||
			!r.Transfers[0].Complete || !r.Transfers[0].Push {
			t.Errorf("push: code %d, %+v", code, r)
		}
		if look(&after); received(1) != 0 || received(2) != 1 {
			t.Errorf("push: gw2 received %d snapshots, gw3 %d", received(1), received(2))
		}
		if after[1].Counts.Repairs+after[2].Counts.Repairs != before[1].Counts.Repairs+before[2].Counts.Repairs {
			t.Error("something had to be repaired")
		}
	})
	t.Run("refusals", func(t *testing.T) {
		o.t = t
		if code := o.ask(gw1, "error", nil, "failover", "to", "10.9.0.99"); code != 2 {
			t.Errorf("to a stranger: code %d", code)
		}
		var no struct{ Error string }
		if code := o.ask(gw2, "error", &no, "failover"); code != 1 || !strings.Contains(no.Error, name(gw1)) {
			t.Errorf("on a backup: code %d, %q", code, no.Error)
		}
		undemote := gw3.Demote(5)
		if code := o.ask(gw1, "error", &no, "failover", "to", name(gw3)); code != 1 || !strings.Contains(no.Error,
			"demoted by 5") || !strings.Contains(no.Error, "remedy: ") {
			t.Errorf("to a demoted peer: code %d, %q", code, no.Error)
		}
		undemote()
		// The answer comes from gw1, the end of the lease reaches gw2's carpd on its own.
		lab.Eventually(t, 5*time.Second, "gw2 to hold back no longer", func() bool { // the lease is for 10 s
			g, err := gw2.Elected()
			return err == nil && !strings.Contains(g.Blocked, "holding back")
		})
	})
	t.Run("failover to the one that is named", func(t *testing.T) {
		o.t = t
		for _, step := range []struct{ from, to, other *scenario.Member }{{gw1, gw3, gw2}, {gw3, gw1, gw2},
			{gw1, gw2, gw3}} {
			took := takeovers(t, step.other)
			var r failover
			code := o.ask(step.from, "failover", &r, "failover", scenario.Instance, "to", name(step.to))
			if code != 0 || len(r.Handovers) != 1 {
				t.Fatalf("%s to %s: code %d, %+v", step.from.Name, step.to.Name, code, r)
			}
			h := r.Handovers[0]
			if !h.OK || h.To != name(step.to) || h.Gap <= 0 || h.Gap > h.Took || len(h.Holding) != 1 ||
				h.Holding[0] != name(step.other) || h.Unasked != 0 {
				t.Errorf("%s to %s: %+v", step.from.Name, step.to.Name, h)
			}
			t.Logf("%s to %s: gap %.1f ms of %.1f ms", step.from.Name, step.to.Name, 1000*h.Gap, 1000*h.Took)
			p.WaitFit(step.to)
			if n := takeovers(t, step.other); n != took {
				t.Errorf("%s was MASTER meanwhile", step.other.Name)
			}
			var s status
			o.ask(step.to, "status", &s, "status")
			if f := s.Groups[0].LastFailover; f == nil || !f.Planned || f.From != name(step.from) {
				t.Errorf("%s tells of %+v", step.to.Name, f)
			}
			waitAble(t, p, step.to)
		}
	})
}

// TestOperatorAgainstPriorities has everybody preempt, and hands over to the one
// of the lowest priority. The others let it be master, until it dies.
func TestOperatorAgainstPriorities(t *testing.T) {
	o := newOperator(t)
	p := scenario.NewGateways(t, 3)
	p.Preempt = "yes"
	p.Start()
	gw1, gw2, gw3 := p.Members[0], p.Members[1], p.Members[2]
	waitAble(t, p, gw1)
	var r failover
	if code := o.ask(gw1, "failover", &r, "failover", "to", gw3.SyncAddr.String()); code != 0 || !r.Handovers[0].OK {
		t.Fatalf("code %d, %+v", code, r)
	}
	p.WaitFit(gw3)
	// Adverts of a lesser master, in numbers that would have been enough.
	heard := func(m *scenario.Member) uint64 {
		g, err := m.Elected()
		if err != nil {
			t.Fatal(err)
		}
		return g.Instances[0].Routers[0].Received
	}
	for _, m := range []*scenario.Member{gw1, gw2} {
		before := heard(m)
		lab.Eventually(t, 20*time.Second, m.Name+" to hear ten advertisements", func() bool {
			return heard(m) >= before+
				10
		})
	}
	if n := takeovers(t, gw2); n != 0 || len(p.Masters()) != 1 || p.Masters()[0] != gw3 {
		t.Errorf("masters %v, gw2 took over %d times", p.Masters(), n)
	}
	gw3.Off()
	lab.Eventually(t, 20*time.Second, "another one to take over from the dead", func() bool {
		for _, m := range []*scenario.Member{gw1, gw2} {
			if g, err := m.Elected(); err == nil && g.State == api.StateMaster {
				return true
			}
		}
		return false
	})
}

// waitAble waits until every backup could take over: none listens after its start,
// or pauses after having been master.
func waitAble(t *testing.T, p *scenario.Pair, master *scenario.Member) {
	t.Helper()
	lab.Eventually(t, 20*time.Second, "all to be able to take over", func() bool {
		for _, m := range p.Members {
			g, err := m.Elected()
			if err != nil || m != master && (g.Blocked != "" || g.State != api.StateBackup) {
				return false
			}
		}
		return true
	})
}

// findSA opens a gateway's kernel and finds an SA in it.
func findSA(t *testing.T, m *scenario.Member, spi uint32) (*xfrm.Kernel, *sadb.SA) {
	t.Helper()
	var k *xfrm.Kernel
	if err := m.Do(func() (err error) { k, err = xfrm.New(xfrm.Options{}); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	snap, err := k.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sa := range snap.SAs {
		if sa.Key.SPI == spi {
			return k, sa
		}
	}
	t.Fatalf("%s has no SA %#x", m.Name, spi)
	return nil, nil
}

func takeovers(t *testing.T, m *scenario.Member) uint64 {
	t.Helper()
	s, err := m.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s.Counts.Takeovers
}
