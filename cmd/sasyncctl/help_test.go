package main

import (
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
)

// TestHelp: each command has help, of which the example is one that is accepted.
func TestHelp(t *testing.T) {
	var verbs []string
	for line := range strings.Lines(usage) {
		if verb := strings.Fields(line)[0]; len(verbs) == 0 || verbs[len(verbs)-1] != verb {
			verbs = append(verbs, verb)
		}
	}
	if len(verbs) != len(helps) {
		t.Errorf("%d commands in the usage, %d with help", len(verbs), len(helps))
	}
	for _, verb := range verbs {
		for _, line := range []string{"help " + verb, verb + " -h"} {
			code, out, errs := ctl(t, "/nowhere", strings.Fields(line)...)
			if code != daemon.ExitOK || errs != "" || !strings.HasPrefix(out, "usage: sasyncctl ") {
				t.Errorf("%s: code %d: %s%s", line, code, out, errs)
			}
			for l := range strings.Lines(out) {
				if verb == "help" && line != "help help" {
					break // that is the list
				}
				if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); n > columns {
					t.Errorf("%s: %d columns: %s", line, n, l)
				}
			}
		}
		example := strings.Fields(helps[verb].Example)
		if len(example) == 0 || example[0] != verb {
			t.Errorf("the example of %s is %q", verb, example)
		}
		if verb == verbInit || verb == "help" {
			continue // tried by package setup, and above
		}
		f, err := daemon.CtlFlags(self, "", example, io.Discard, "")
		if err == nil {
			_, err = parse(f.Args)
		}
		if err == nil {
			err = misused(verb, f)
		}
		if err != nil {
			t.Errorf("the example of %s: %v", verb, err)
		}
	}
	code, out, _ := bare("-h")
	for _, verb := range verbs {
		if code != daemon.ExitOK || !strings.Contains(out, "\n  "+verb+" ") {
			t.Errorf("-h: code %d, lacks %s:\n%s", code, verb, out)
		}
	}
}

func bare(line string) (code int, out, errs string) {
	var o, e strings.Builder
	code = run(strings.Fields(line), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// TestWrongLines: a misspelt command is answered with the one that was meant, wrong
// operands with the usage of the command, and a daemon that is not there with what to
// do. JSON has the error alone.
func TestWrongLines(t *testing.T) {
	for line, want := range map[string]struct {
		code int
		text string
	}{
		"stauts":            {daemon.ExitUsage, "there is no command \"stauts\", did you mean status?"},
		"help fialover":     {daemon.ExitUsage, "did you mean failover?"},
		"check now":         {daemon.ExitUsage, "usage: sasyncctl [-j] [-w seconds] check\n"},
		"-a status":         {daemon.ExitUsage, "-a is a flag of doctor, not of status"},
		"-v init 10.9.0.2":  {daemon.ExitUsage, "the flags of init stand behind it"},
		"-s /nowhere check": {daemon.ExitUnknown, "\nis sasyncd running? systemctl start sasyncd; journalctl "},
		"init":              {daemon.ExitUsage, "name one peer"},
	} {
		if code, out, errs := bare(line); code != want.code || out != "" || !strings.Contains(errs, want.text) {
			t.Errorf("%s: code %d, %s%s", line, code, out, errs)
		}
	}
	if _, out, _ := bare("-j -s /nowhere check"); strings.Contains(out, "systemctl") || !strings.Contains(out, "dial") {
		t.Errorf("-j: %s", out)
	}
}

// TestColours: an answer is coloured on a terminal, unless NO_COLOR is set, and in
// nothing that a machine reads.
func TestColours(t *testing.T) {
	s := full()
	socket := serve(t, map[string]daemon.Verb{"check": says(s.Check), "status": says(s),
		"plan": says(report.Plan{Answer: report.AnswerNo, Handovers: []report.Planned{{Group: "ipsec", Check: s.Check}}})})
	const no = "\x1b[1;31ma failover would not work\x1b[m"
	for line, want := range map[string]string{
		"check": no, "status": "\x1b[1;31mPROBLEM: \x1b[mgroup carp1: ", "failover -n": "\x1b[1;31mwould be refused",
	} {
		t.Setenv("TERM", "xterm")
		t.Setenv("NO_COLOR", "")
		p := onTerminal(t, "-s "+socket+" "+line)
		<-p.done
		p.until("colours of "+line, func(s string) bool { return strings.Contains(s, want) })
		for _, more := range []string{"NO_COLOR=1", "TERM=dumb", "-j "} {
			args := "-s " + socket + " " + line
			if k, v, ok := strings.Cut(more, "="); ok {
				t.Setenv(k, v)
			} else {
				args = more + args
			}
			p := onTerminal(t, args)
			<-p.done
			p.until("the answer to "+line, func(s string) bool { return strings.Contains(s, "failover would not work") })
			if text := p.text(); strings.Contains(text, "\x1b") {
				t.Errorf("%s with %s is coloured: %q", line, more, text)
			}
			t.Setenv("TERM", "xterm")
			t.Setenv("NO_COLOR", "")
		}
		if _, out, _ := ctl(t, socket, strings.Fields(line)...); strings.Contains(out, "\x1b") {
			t.Errorf("%s is coloured without a terminal: %q", line, out)
		}
	}
	yes := serve(t, map[string]daemon.Verb{"check": says(report.Verdict{Fit: true, Answer: report.AnswerYes,
		Summary: "a failover would work"})})
	p := onTerminal(t, "-s "+yes+" check")
	<-p.done
	p.until("a green yes", func(s string) bool { return strings.Contains(s, "\x1b[32ma failover would work\x1b[m") })
}
