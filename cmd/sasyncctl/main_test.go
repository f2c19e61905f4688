package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/compare"
	"sasyncd/sync/engine"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]request{
		"status":                {verb: "status"},
		"show":                  {verb: "show", what: "all"},
		"show sa":               {verb: "show", what: "sa"},
		"diff":                  {verb: "diff"},
		"diff 10.0.0.2":         {verb: "diff", peer: "10.0.0.2"},
		"resync fw2":            {verb: "resync", peer: "fw2"},
		"failover":              {verb: "failover"},
		"failover carp1":        {verb: "failover", group: "carp1"},
		"failover to fw2":       {verb: "failover", peer: "fw2"},
		"failover carp1 to fw2": {verb: "failover", group: "carp1", peer: "fw2"},
		"failover to to fw2":    {},
		"failover to":           {},
		"failover a b":          {},
		"failover a to b c":     {},
		"diff a b":              {},
		"status now":            {},
		"top 5":                 {},
		"explode":               {},
	} {
		got, err := parse(strings.Fields(line))
		if want == (request{}) {
			if !errors.Is(err, errUsage) {
				t.Errorf("%q is accepted as %+v", line, got)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", line, got, err, want)
		}
	}
}

// The whole state fits one screen, and says what is wrong.
func TestStatusFitsOneScreen(t *testing.T) {
	s := full()
	socket := serve(t, map[string]daemon.Verb{"status": says(s)})
	code, out, errs := ctl(t, socket, "status")
	if code != 0 || errs != "" {
		t.Fatalf("code %d, %s", code, errs)
	}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) > 24 {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if utf8.RuneCountInString(l) > 80 {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(l), l)
		}
	}
	for _, want := range []string{
		"fw1: node 3f2a91c0, 1 of 2 peers connected, sasyncd 1.0",
		"group carp1 (outside, inside): MASTER for 1h0m, term 7: takeover",
		"203.0.113.1 2001:db8::1", "400 SAs, 600 policies, 2 deletions held back",
		"10.0.0.2: in sync, lag 0.0 s, 1200 packets, 0 changes", "10.0.0.3: receives a snapshot, 1200 of 5000",
		"67.1M packets ahead", "strongswan active, 10 of 12 tunnels up",
		"1h0m ago 10.0.0.2 -> this node, planned, gap 12 ms (takeover)",
		"a failover would not work", "its kernel refuses 1 item", "10.0.0.3: it is not connected",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}

// TestStatusBeginsWithTheWorst: what keeps a failover from working, or costs something
// on this gateway now, is the first line.
func TestStatusBeginsWithTheWorst(t *testing.T) {
	lost := report.Problem{Code: "elector-lost", Severity: "fails", Group: "ipsec", Member: "10.0.0.2",
		What: "the election cannot be reached: connection refused"}
	held := report.Problem{Code: "held", Severity: "costs", Group: "ipsec", Member: report.ThisGateway,
		What: "nothing is forwarded: no policies"}
	odd := report.Problem{Code: "no-tunnel", Severity: "odd", Group: "ipsec", Member: report.ThisGateway,
		What: "there is no tunnel"}
	elsewhere := report.Problem{Code: "peer-away", Severity: "costs", Member: "10.0.0.3", What: "it is not connected"}
	for name, tt := range map[string]struct {
		reasons, warnings []report.Problem
		want              string
	}{
		"a failover would fail": {[]report.Problem{lost, held}, []report.Problem{odd},
			"PROBLEM: group ipsec: 10.0.0.2: the election cannot be reached: connection"},
		"this gateway serves badly": {nil, []report.Problem{elsewhere, held, odd},
			"PROBLEM: group ipsec: this gateway: nothing is forwarded: no policies"},
		"the MASTER's tables are empty": {nil, []report.Problem{elsewhere,
			{Code: "emptied", Severity: "costs", Group: "ipsec", Member: "10.0.0.2", What: "no SA is left"}},
			"PROBLEM: group ipsec: 10.0.0.2: no SA is left"},
		"another one of three": {nil, []report.Problem{elsewhere, odd}, "fw1: node 3f2a91c0"},
		"nothing":              {nil, nil, "fw1: node 3f2a91c0"},
	} {
		s := full()
		s.Check.Reasons, s.Check.Warnings = tt.reasons, tt.warnings
		code, out, _ := ctl(t, serve(t, map[string]daemon.Verb{"status": says(s)}), "status")
		if first, _, _ := strings.Cut(out, "\n"); code != 0 || !strings.HasPrefix(first, tt.want) {
			t.Errorf("%s: code %d, the first line is %q, want %q", name, code, first, tt.want)
		}
	}
}

func TestStatusOfABackup(t *testing.T) {
	s := full()
	g := &s.Groups[0]
	g.Role, g.Standbys, g.Peers[0].Role = "BACKUP", nil, "MASTER"
	_, out, _ := ctl(t, serve(t, map[string]daemon.Verb{"status": says(s)}), "status")
	for _, want := range []string{"master    10.0.0.2 (term 7)", "in sync: master, snapshot 1 of 2; counters 0.4 s old",
		"67.1M packets ahead of the master, for 1h0m at its highest rate"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}

func TestCheckExplains(t *testing.T) {
	s := full()
	socket := serve(t, map[string]daemon.Verb{"check": says(s.Check)})
	code, out, _ := ctl(t, socket, "check")
	if code != daemon.ExitFailure || strings.Count(out, "remedy: ") != len(s.Check.Reasons)+len(s.Check.Warnings) ||
		len(s.Check.Reasons) == 0 {
		t.Errorf("code %d:\n%s", code, out)
	}
	if code, _, _ := ctl(t, socket, "-j", "check"); code != daemon.ExitFailure {
		t.Errorf("with -j: code %d", code)
	}
	unknown := serve(t, map[string]daemon.Verb{"check": says(report.Verdict{Answer: report.AnswerUnknown,
		Summary: "cannot tell"})})
	if code, _, _ := ctl(t, unknown, "check"); code != daemon.ExitUnknown {
		t.Errorf("cannot tell: code %d", code)
	}
	fit := serve(t, map[string]daemon.Verb{"check": says(report.Verdict{Fit: true, Answer: report.AnswerYes,
		Summary: "a failover would work"})})
	if code, out, _ := ctl(t, fit, "check"); code != daemon.ExitOK || out != "a failover would work\n" {
		t.Errorf("code %d: %s", code, out)
	}
}

func TestDiff(t *testing.T) {
	d := report.Diff{Peer: "10.0.0.2", Differences: []compare.Difference{
		{Group: "carp1", How: "missing", Item: "esp dst 192.0.2.1 spi 0x00001000"},
		{Group: "carp1", How: "differs", Item: "esp dst 192.0.2.1 spi 0x00001001",
			Fields: []compare.FieldDifference{{Field: "aead-key", Here: "digest 01", There: "digest 02"}}}}}
	var asked string
	socket := serve(t, map[string]daemon.Verb{"diff": {Handle: func(_ context.Context, c *daemon.Call) error {
		var args struct{ Peer string }
		if err := c.Decode(&args); err != nil {
			return err
		}
		if asked = args.Peer; asked == "" {
			return c.Send(report.Diff{Differences: []compare.Difference{}})
		}
		return c.Send(d)
	}}})
	code, out, _ := ctl(t, socket, "diff", "10.0.0.2")
	want := "carp1  missing  esp dst 192.0.2.1 spi 0x00001000\ncarp1  differs  esp dst 192.0.2.1 spi 0x00001001\n  " +
		"aead-key: here digest 01, there digest 02\n"
	if code != daemon.ExitFailure || out != want || asked != "10.0.0.2" {
		t.Errorf("asked %q, code %d:\n%s", asked, code, out)
	}
	if code, out, _ := ctl(t, socket, "diff"); code != daemon.ExitOK || out != "" {
		t.Errorf("no differences: code %d: %s", code, out)
	}
}

// Progress goes to standard error, with -v or on a terminal, and the result to
// standard output.
func TestFailoverTellsHowItWent(t *testing.T) {
	var args struct{ Group, Peer string }
	h := report.Handover{Group: "carp1", To: "10.0.0.2", OK: true, Gap: 0.012, Took: 0.051,
		Holding: []string{"10.0.0.3"}}
	verb := func(h report.Handover) daemon.Verb {
		return daemon.Verb{Handle: func(_ context.Context, c *daemon.Call) error {
			if err := c.Decode(&args); err != nil {
				return err
			}
			if err := c.Send(report.Line[report.Failover]{Step: &report.Step{Group: "carp1",
				Text: "fence"}}); err != nil {
				return err
			}
			return c.Send(report.Line[report.Failover]{Result: &report.Failover{Handovers: []report.Handover{h}}})
		}}
	}
	socket := serve(t, map[string]daemon.Verb{"failover": verb(h)})
	code, out, errs := ctl(t, socket, "failover", "carp1", "to", "10.0.0.2")
	if code != 0 || out != "carp1: handed over to 10.0.0.2, gap 12 ms, 51 ms in all, 10.0.0.3 held back\n" ||
		errs != "" {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
	if args.Group != "carp1" || args.Peer != "10.0.0.2" {
		t.Errorf("asked for %+v", args)
	}
	if _, _, errs := ctl(t, socket, "-v", "failover"); errs != "carp1: fence\n" {
		t.Errorf("progress: %q", errs)
	}
	h.OK, h.Error = false, "no other node took over, and this one is MASTER again"
	socket = serve(t, map[string]daemon.Verb{"failover": verb(h)})
	if code, out, _ := ctl(t, socket, "failover"); code != daemon.ExitFailure || !strings.Contains(out,
		"FAILED: no other node") {
		t.Errorf("code %d: %s", code, out)
	}
}

func TestResyncTellsWhatArrived(t *testing.T) {
	tr := report.Transfer{Transfer: engine.Transfer{Group: "carp1", Peer: "10.0.0.2"}, Complete: true, Records: 1000,
		Seconds: 0.25}
	verb := func() daemon.Verb {
		return says(report.Line[report.Resync]{Result: &report.Resync{Transfers: []report.Transfer{tr}}})
	}
	if code, out, _ := ctl(t, serve(t, map[string]daemon.Verb{"resync": verb()}), "resync"); code != 0 ||
		out != "carp1: fetched from 10.0.0.2, 1000 SAs and policies in 250 ms\n" {
		t.Errorf("code %d: %s", code, out)
	}
	tr.Complete, tr.Push = false, true
	if code, _, _ := ctl(t, serve(t, map[string]daemon.Verb{"resync": verb()}),
		"resync", "10.0.0.2"); code != daemon.ExitFailure {
		t.Errorf("incomplete: code %d", code)
	}
}

func TestExitCodes(t *testing.T) {
	fails := func(err error) daemon.Verb {
		return daemon.Verb{Handle: func(context.Context, *daemon.Call) error { return err }}
	}
	socket := serve(t, map[string]daemon.Verb{
		"status":   fails(errors.New("broken")),
		"diff":     fails(daemon.Bad("nobody is no peer")),
		"reload":   fails(&daemon.CallError{Code: daemon.CodeDenied, Message: "reload is for root"}),
		"failover": says(), // no result: an answer that makes no sense
	})
	for line, want := range map[string]int{
		"status": daemon.ExitFailure, "diff nobody": daemon.ExitUsage, "reload": daemon.ExitPrivilege,
		"failover": daemon.ExitFailure,
		"explode":  daemon.ExitUsage, "-q": daemon.ExitUsage, "check": daemon.ExitFailure, // unknown to that daemon
	} {
		code, out, errs := ctl(t, socket, strings.Fields(line)...)
		if code != want || errs == "" || out != "" {
			t.Errorf("%s: code %d, want %d: %s%s", line, code, want, out, errs)
		}
	}
	if code, _, _ := ctl(t, socket+"-not", "status"); code != daemon.ExitUnknown {
		t.Errorf("without a daemon: code %d", code)
	}
	if code, out, _ := ctl(t, socket, "-V"); code != 0 || !strings.HasPrefix(out, "sasyncctl ") {
		t.Errorf("version: %d %s", code, out)
	}
}

func TestPeers(t *testing.T) {
	v := report.Peers{Peers: full().Peers, Members: []report.Member{
		{Node: "bbbbbbbbbbbbbbbb", Host: "fw4", Alive: true, Addresses: []string{"10.0.0.4:500"}},
		{Node: "aa", Direct: true, Alive: true}}}
	_, out, _ := ctl(t, serve(t, map[string]daemon.Verb{"peers": says(v)}), "peers")
	for _, want := range []string{"10.0.0.2", "connected for 1h0m, rtt 0.3 ms",
		"not connected\n  found by 10.0.0.2\n  why: timeout: connection refused\n", "(fw4 10.0.0.4:500)",
		"no session from here"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}

// TestSeenElsewhere: a MASTER that is known by way of another gateway only is named,
// with the way and its age.
func TestSeenElsewhere(t *testing.T) {
	s := full()
	g := &s.Groups[0]
	g.Role, g.Peers = "BACKUP", []engine.GroupPeerState{{Peer: "10.0.0.2", Role: "BACKUP", Term: 7}}
	socket := serve(t, map[string]daemon.Verb{"status": says(s),
		"peers": says(report.Peers{Peers: s.Peers, Members: []report.Member{
			{Node: "bbbbbbbbbbbb", Host: "fw3", Alive: true, Seen: &s.Seen[0]}}})})
	words := func(what string) string {
		_, out, _ := ctl(t, socket, what)
		for l := range strings.Lines(out) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); n > columns {
				t.Errorf("%s: a line of %d: %s", what, n, l)
			}
		}
		return strings.Join(strings.Fields(out), " ")
	}
	const sentence = "is alive and MASTER of carp1, seen by way of 10.0.0.2 0.4 s ago: the link between you is cut"
	if out := words("status"); !strings.Contains(out, "master none known elsewhere 10.0.0.3 "+sentence) {
		t.Error(out)
	}
	if out := words("peers"); !strings.Contains(out, "connection refused "+sentence) || strings.Contains(out, "(fw3") {
		t.Error(out)
	}

	// Of a gateway that the configuration does not name it is not the link that lacks.
	s.Seen[0].Peer = ""
	socket = serve(t, map[string]daemon.Verb{"status": says(s)})
	if out := words("status"); !strings.Contains(out,
		"elsewhere fw3 is alive and MASTER of carp1, seen by way of 10.0.0.2 0.4 s ago: it is no peer of this "+
			"configuration") {
		t.Error(out)
	}
	// A MASTER with a session is not elsewhere.
	g.Peers[0].Role = "MASTER"
	socket = serve(t, map[string]daemon.Verb{"status": says(s)})
	if out := words("status"); strings.Contains(out, "elsewhere") {
		t.Error(out)
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 0.5: "0.5", 9999: "9999", 12345: "12.3k", 999999: "1000k",
		67108864: "67.1M", 5e9: "5.0G"} {
		if got := count(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
	if got := gap(0.0123) + gap(2.34); got != "12 ms2.3 s" {
		t.Error(got)
	}
}
