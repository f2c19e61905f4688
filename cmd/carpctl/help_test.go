package main

import (
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/doctor"
)

// TestHelp: each command has help, of which the example is one that is accepted.
func TestHelp(t *testing.T) {
	n := 0
	for line := range strings.Lines(usage) {
		n++
		verb := strings.Fields(line)[0]
		for _, line := range []string{"help " + verb, verb + " -h"} {
			code, out, errs := ctl("/nowhere", strings.Fields(line)...)
			if code != daemon.ExitOK || errs != "" || !strings.HasPrefix(out, "usage: carpctl ") {
				t.Errorf("%s: code %d: %s%s", line, code, out, errs)
			}
			for l := range strings.Lines(out) {
				if verb == "help" && line != "help help" {
					break // that is the list
				}
				if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); n > 80 {
					t.Errorf("%s: %d columns: %s", line, n, l)
				}
			}
		}
		example := strings.Fields(helps[verb].Example)
		if len(example) == 0 || example[0] != verb {
			t.Errorf("the example of %s is %q", verb, example)
			continue
		}
		switch verb {
		case "help":
		case verbFence, verbNotify:
			if _, err := newNotifier("", []string{example[1], "true"}, slog.New(slog.DiscardHandler)); err != nil ||
				len(example) < 3 {
				t.Errorf("the example of %s is %q: %v", verb, example, err)
			}
		default:
			if _, err := request(example); err != nil {
				t.Errorf("the example of %s: %v", verb, err)
			}
		}
	}
	if n != len(helps) {
		t.Errorf("%d commands in the usage, %d with help", n, len(helps))
	}
}

// TestWrongLines: the command that was meant, the usage of one, and what to do where
// carpd is not there; JSON has the error alone.
func TestWrongLines(t *testing.T) {
	for line, want := range map[string]struct {
		code int
		text string
	}{
		"demoet ipsec 5": {daemon.ExitUsage, "there is no command \"demoet\", did you mean demote?"},
		"resign":         {daemon.ExitUsage, "usage: carpctl [-j] resign GROUP\n"},
		"notify ipsec":   {daemon.ExitUsage, "usage: carpctl notify GROUP PROGRAM"},
		"show":           {daemon.ExitUnknown, "\nis carpd running? systemctl start carpd; journalctl -u carpd "},
	} {
		if code, out, errs := ctl("/nowhere", strings.Fields(line)...); code != want.code || out != "" ||
			!strings.Contains(errs, want.text) {
			t.Errorf("%s: code %d, %s%s", line, code, out, errs)
		}
	}
	if _, out, _ := ctl("/nowhere", "-j", "show"); strings.Contains(out, "systemctl") {
		t.Errorf("-j: %s", out)
	}
}

// TestColours of doctor.
func TestColours(t *testing.T) {
	var out strings.Builder
	if err := tell(&out, []doctor.Finding{{Problem: true, Where: "eth0", What: "is down", Remedy: "plug it in"}}, false,
		true); err != errSick || out.String() != "\x1b[1;31mPROBLEM: \x1b[meth0: is down\n    plug it in\n" {
		t.Errorf("%v: %q", err, out.String())
	}
	out.Reset()
	if err := tell(&out, nil, false, true); err != nil || out.String() != "\x1b[32mno problem found\x1b[m\n" {
		t.Errorf("%v: %q", err, out.String())
	}
}
