package main

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
)

// planOf is a plan for one group; edit makes it another one.
func planOf(edit func(*report.Planned)) report.Plan {
	gap, when := 0.028, at
	h := report.Planned{Group: "ipsec", To: []report.Successor{{Peer: "10.9.0.2", Host: "gw2"}}, Gap: &gap,
		GapAt: &when, HoldBack: []string{},
		Check: report.Verdict{Fit: true, Answer: report.AnswerYes, Summary: "a failover would work",
			Reasons: []report.Problem{}, Warnings: []report.Problem{}}}
	edit(&h)
	return report.Plan{Answer: h.Check.Answer, Handovers: []report.Planned{h}}
}

func sick(answer string) func(*report.Planned) {
	return func(h *report.Planned) {
		h.To, h.Check = []report.Successor{}, full().Check
		h.Check.Answer, h.Check.Fit = answer, false
	}
}

// TestDryRun tells to whom, what it is refused for and what it would cost, with the
// exit code of check, and orders nothing.
func TestDryRun(t *testing.T) {
	for name, tt := range map[string]struct {
		plan  report.Plan
		code  int
		wants []string
	}{
		"yes": {planOf(func(*report.Planned) {}), daemon.ExitOK,
			[]string{"ipsec: would be handed over to gw2 (10.9.0.2)\n",
				"a gap of about 28 ms, as the last time, 1h0m ago"}},
		"two could, a tunnel": {planOf(func(h *report.Planned) {
			h.To, h.Gap, h.Negotiates = append(h.To, report.Successor{Peer: "10.9.0.3"}), nil, 1
		}), daemon.ExitOK, []string{"to gw2 (10.9.0.2), or to 10.9.0.3\n", "a gap that is not known",
			"negotiates 1 tunnel anew"}},
		"to one of three": {planOf(func(h *report.Planned) { h.HoldBack, h.Unasked = []string{"10.9.0.3"}, 1 }),
			daemon.ExitOK,
			[]string{"10.9.0.3 would be asked to hold back", "1 peer is not connected and could not be asked"}},
		"no": {planOf(sick(report.AnswerNo)), daemon.ExitFailure,
			[]string{"ipsec: would be refused without -f: a failover would not work",
				"it is 7.0 s behind the MASTER\n    remedy: check the load", "not connected"}},
		"cannot tell": {planOf(sick(report.AnswerUnknown)), daemon.ExitUnknown,
			[]string{"would be refused without -f"}},
		"no, and -f would find one": {planOf(func(h *report.Planned) {
			to := h.To
			sick(report.AnswerNo)(h)
			h.To = to
		}), daemon.ExitFailure, []string{"with -f to gw2 (10.9.0.2)"}},
	} {
		t.Run(name, func(t *testing.T) {
			socket := serve(t, map[string]daemon.Verb{"plan": says(tt.plan)}) // failover is unknown to it
			code, out, errs := ctl(t, socket, "failover", "--dry-run")
			if code != tt.code || errs != "" {
				t.Errorf("code %d: %s", code, errs)
			}
			for _, want := range tt.wants {
				if !strings.Contains(out, want) {
					t.Errorf("lacks %q:\n%s", want, out)
				}
			}
			if code, _, _ := ctl(t, socket, "-jn", "failover", "ipsec", "to", "10.9.0.2"); code != tt.code {
				t.Errorf("-j: code %d", code)
			}
		})
	}
}

// TestForceIsAsked: what failover sends, which an older daemon understands without -f.
func TestForceIsAsked(t *testing.T) {
	var args string
	socket := serve(t, map[string]daemon.Verb{"failover": {Handle: func(_ context.Context, c *daemon.Call) error {
		args = string(c.Args)
		return c.Send(report.Line[report.Failover]{Result: &report.Failover{}})
	}}})
	for line, want := range map[string]string{"failover": `{"group":"","peer":""}`,
		"failover -f": `{"force":true,"group":"","peer":""}`} {
		if code, _, errs := ctl(t, socket, strings.Fields(line)...); code != 0 || args != want {
			t.Errorf("%s: code %d, %s%s", line, code, args, errs)
		}
	}
	for _, line := range []string{"check -f", "status -n", "failover -w 3", "check -w -1"} {
		if code, _, errs := ctl(t, socket, strings.Fields(line)...); code != daemon.ExitUsage || errs == "" {
			t.Errorf("%s: code %d: %s", line, code, errs)
		}
	}
}

// TestCheckWaits: check -w ends as soon as the answer is yes, says what it waits for
// once for each change, and else ends with the last answer.
func TestCheckWaits(t *testing.T) {
	var asked atomic.Int32
	no := full().Check
	yes := report.Verdict{Fit: true, Answer: report.AnswerYes, Summary: "a failover would work",
		Reasons: []report.Problem{}, Warnings: []report.Problem{}}
	answers := []report.Verdict{no, no, {Answer: report.AnswerUnknown, Summary: "cannot tell",
		Reasons: []report.Problem{{Member: "gw2", What: "it has not reported"}}}, yes}
	socket := serve(t, map[string]daemon.Verb{"check": {Handle: func(_ context.Context, c *daemon.Call) error {
		return c.Send(answers[min(int(asked.Add(1)), len(answers))-1])
	}}})
	began := time.Now()
	code, out, errs := ctl(t, socket, "check", "-w", "60")
	if code != daemon.ExitOK || out != "a failover would work\n" || time.Since(began) > 30*time.Second {
		t.Errorf("after %v: code %d: %s", time.Since(began), code, out)
	}
	if want := "waiting: group carp1: 10.0.0.2: it is 7.0 s behind the MASTER, and 1 more\nwaiting: gw2: it has not " +
		"reported\n"; errs != want {
		t.Errorf("it waits for\n%swant\n%s", errs, want)
	}
	answers = []report.Verdict{no}
	if code, out, _ := ctl(t, socket, "-j", "check", "-w", "1"); code != daemon.ExitFailure ||
		strings.Count(out, "\n") != 1 {
		t.Errorf("code %d: %s", code, out)
	}
	if code, out, errs := ctl(t, socket+"-not", "check", "-w", "1"); code != daemon.ExitUnknown || out != "" ||
		!strings.Contains(errs, "not reachable") {
		t.Errorf("without a daemon: code %d: %s%s", code, out, errs)
	}
}
