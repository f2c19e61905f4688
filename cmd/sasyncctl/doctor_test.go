package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/doctor"
	"sasyncd/cmd/internal/judge"
	"sasyncd/cmd/internal/report"
	"sasyncd/tests/jsondoc"
)

// patient is a pair of which the verdict has these problems.
func patient(list ...report.Problem) report.Doctor {
	d := report.Doctor{Check: report.Verdict{Fit: true, Answer: report.AnswerYes, Reasons: []report.Problem{},
		Warnings: []report.Problem{}},
		Gateways: []report.Gateway{{Name: report.ThisGateway, Host: "gw1", Version: "sasyncd 0.9",
			Elector: "carpd", Reports: true},
			{Name: "10.9.0.2", Host: "gw2", Version: "sasyncd 0.9", Elector: "carpd", Reports: true},
			{Name: "10.9.0.3"}}}
	for _, p := range list {
		if p.Severity == "fails" {
			d.Check.Answer, d.Check.Fit = report.AnswerNo, false
		}
		d.Check.Reasons = append(d.Check.Reasons, p)
	}
	return d
}

// TestDoctorIsOneOverBothDaemons: what both say is said once, with the details of
// carpd and the severity of check; what one alone knows is not lost.
func TestDoctorIsOneOverBothDaemons(t *testing.T) {
	here := func(code, severity string) report.Problem {
		return report.Problem{Code: code, Severity: severity, Group: "ipsec", Member: report.ThisGateway,
			What: "by sasyncd", Remedy: "sasyncd's"}
	}
	there := here("elector-lost", "fails")
	there.Member = "10.9.0.2"
	carpd := func(code judge.Code, problem bool) doctor.Finding {
		return doctor.Finding{Code: code, Problem: problem, Where: "outside ipv4", What: "by carpd", Remedy: "carpd's"}
	}
	for name, tt := range map[string]struct {
		in        intake
		want      []string // severity code words, of this gateway
		code      int
		elsewhere int
	}{
		"healthy": {intake{sasyncd: patient()}, nil, daemon.ExitOK, 0},
		"both know": {intake{sasyncd: patient(here("hears-no-master", "fails")),
			carpd: []doctor.Finding{carpd(judge.HearsNoMaster, true), carpd(judge.HearsNoMaster, true)}},
			[]string{"fails hears-no-master by carpd", "fails hears-no-master by carpd"}, daemon.ExitFailure, 0},
		"one each": {intake{sasyncd: patient(here("not-in-sync", "fails")),
			carpd: []doctor.Finding{carpd(doctor.ClockJumped, true)}}, []string{"fails not-in-sync by sasyncd",
			"odd clock-jumped by carpd"}, daemon.ExitFailure, 0},
		"a note that costs": {intake{sasyncd: patient(here("held", "costs")),
			carpd: []doctor.Finding{carpd(judge.Held, false)}}, []string{"costs held by carpd"}, daemon.ExitFailure, 0},
		"a note": {intake{sasyncd: patient(), carpd: []doctor.Finding{carpd(doctor.Unheard, false)}},
			[]string{"note no-other-master by carpd"}, daemon.ExitOK, 0},
		"odd": {intake{sasyncd: patient(here("no-tunnel", "odd"))}, []string{"odd no-tunnel by sasyncd"},
			daemon.ExitOK, 0},
		"cannot tell": {intake{sasyncd: patient(here("no-report", "unknown"))},
			[]string{"unknown no-report by sasyncd"}, daemon.ExitUnknown, 0},
		"about no gateway": {intake{sasyncd: patient(report.Problem{Code: "no-master",
			Severity: "fails", What: "by sasyncd"})}, []string{"fails no-master by sasyncd"}, daemon.ExitFailure, 0},
		"elsewhere":     {intake{sasyncd: patient(there)}, nil, daemon.ExitOK, 1},
		"elsewhere, -a": {intake{sasyncd: patient(there), all: true}, nil, daemon.ExitFailure, 0},
		"carpd is dead": {intake{sasyncd: patient(), carpdErr: errors.New("refused")},
			[]string{"fails elector-lost refused"}, daemon.ExitFailure, 0},
		"carpd is dead, and sasyncd says so": {intake{sasyncd: patient(here("elector-lost", "fails")),
			carpdErr: errors.New("refused")},
			[]string{"fails elector-lost by sasyncd"}, daemon.ExitFailure, 0},
		"sasyncd is dead": {intake{sasyncdErr: errors.New("no daemon"),
			carpd: []doctor.Finding{carpd(judge.Blocked, false)}},
			[]string{"fails sasyncd-lost no daemon", "note blocked by carpd"}, daemon.ExitFailure, 0},
		"carpd may not be asked": {intake{sasyncd: patient(), carpdErr: fs.ErrPermission},
			[]string{"unknown elector-lost permission denied"}, daemon.ExitUnknown, 0},
	} {
		t.Run(name, func(t *testing.T) {
			x := tt.in.examine()
			var got []string
			for _, f := range x.Gateways[0].Findings {
				got = append(got, f.Severity+" "+f.Code+" "+f.What)
				if f.Remedy == "" && f.Code != "no-master" {
					t.Errorf("no remedy: %+v", f)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("want -, got +\n%s", d)
			}
			if code := sickness(x); code != tt.code || x.Elsewhere != tt.elsewhere {
				t.Errorf("code %d, want %d; %d elsewhere", code, tt.code, x.Elsewhere)
			}
			if n := len(x.Gateways); tt.in.all != (n > 1) {
				t.Errorf("%d gateways", n)
			}
		})
	}
}

// TestDoctorPrints what was found by gateway, and JSON as documented.
func TestDoctorPrints(t *testing.T) {
	doc, err := jsondoc.Read()
	if err != nil {
		t.Fatal(err)
	}
	d := patient(report.Problem{Code: "not-in-sync", Severity: "fails", Group: "ipsec", Member: "10.9.0.2",
		What: "it is not in sync", Remedy: "wait"})
	socket := serve(t, map[string]daemon.Verb{"doctor": says(d)})
	code, out, errs := ctl(t, socket, "doctor")
	if code != daemon.ExitOK || errs != "" ||
		out != "gw1 (this gateway), sasyncd 0.9, tracker carpd:\nno problem found\n1 problem of other gateways: "+
			"sasyncctl doctor -a\n" {
		t.Errorf("code %d, %s:\n%s", code, errs, out)
	}
	code, out, _ = ctl(t, socket, "doctor", "-a")
	for _, want := range []string{"gw2 (10.9.0.2), sasyncd 0.9, tracker carpd:\nPROBLEM: group ipsec: it is not in " +
		"sync\n    wait\n", "10.9.0.3, which has not reported:\n"} {
		if code != daemon.ExitFailure || !strings.Contains(out, want) {
			t.Errorf("code %d, lacks %q:\n%s", code, want, out)
		}
	}
	for _, line := range []string{"-j doctor", "-ja doctor"} {
		_, out, _ := ctl(t, socket, strings.Fields(line)...)
		if err := doc.Check("examination", []byte(out)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	refusing := serve(t, map[string]daemon.Verb{"doctor": {Handle: func(context.Context,
		*daemon.Call) error {
		return errors.New("the engine has ended")
	}}})
	if code, out, errs := ctl(t, refusing, "doctor"); code != daemon.ExitFailure || out != "" || !strings.Contains(errs,
		"the engine has ended") {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
	// Without sasyncd the election is examined all the same, where carpd's default socket is.
	code, out, _ = ctl(t, socket+"-not", "-j", "doctor")
	var x report.Examination
	if err := json.Unmarshal([]byte(out), &x); err != nil || code != daemon.ExitFailure ||
		x.Gateways[0].Findings[0].Code != sasyncdLost {
		t.Errorf("code %d, %v: %s", code, err, out)
	}
}
