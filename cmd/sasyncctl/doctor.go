package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/doctor"
	"sasyncd/cmd/internal/judge"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/internal/term"
)

const (
	// carpdLimit bounds the examination of the election, listening included.
	carpdLimit = 8 * time.Second
	// sasyncdLost is the code for a sasyncd that does not answer.
	sasyncdLost = "sasyncd-lost"
	note        = "note"
)

// doctor examines this gateway by both daemons, and with -a the others by what they
// report. A daemon that does not answer is a finding.
func (p *program) doctor(ctx context.Context) (int, error) {
	in := intake{all: p.flags.All}
	in.sasyncd, in.sasyncdErr = p.askDoctor(ctx)
	if in.sasyncdErr != nil && !errors.Is(in.sasyncdErr, daemon.ErrUnreachable) {
		return 0, in.sasyncdErr
	}
	socket := in.sasyncd.CarpdSocket
	if in.sasyncdErr != nil {
		socket = conf.DefaultCarpdSocket
	}
	if socket != "" {
		in.carpd, in.carpdErr = askCarpd(ctx, socket)
	}
	x := in.examine()
	if p.flags.JSON {
		return sickness(x), printJSON(p.out, x)
	}
	return sickness(x), examined(p.out, x, p.paint)
}

func (p *program) askDoctor(ctx context.Context) (out report.Doctor, err error) {
	c, err := daemon.DialControl(ctx, p.flags.Socket)
	if err != nil {
		return out, err
	}
	defer c.Close()
	c.Patience = patience("doctor")
	err = c.Get(ctx, "doctor", nil, &out)
	return out, err
}

func askCarpd(ctx context.Context, socket string) ([]doctor.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, carpdLimit)
	defer cancel()
	c, err := api.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return doctor.Examine(ctx, c)
}

// intake is what the daemons have said.
type intake struct {
	sasyncd              report.Doctor
	carpd                []doctor.Finding
	sasyncdErr, carpdErr error
	all                  bool
}

// examine puts together what both daemons know. It is pure.
func (in *intake) examine() report.Examination {
	v := in.sasyncd.Check
	out := report.Examination{Answer: cmp.Or(v.Answer, report.AnswerUnknown), Gateways: []report.Examined{}}
	for _, g := range in.sasyncd.Gateways {
		out.Gateways = append(out.Gateways, report.Examined{Gateway: g, Findings: []report.Symptom{}})
	}
	if len(out.Gateways) == 0 {
		out.Gateways = append(out.Gateways, report.Examined{Gateway: report.Gateway{Name: report.ThisGateway}})
	}
	for _, p := range append(slices.Clone(v.Reasons), v.Warnings...) {
		i := slices.IndexFunc(out.Gateways, func(g report.Examined) bool { return g.Name == p.Member })
		g := &out.Gateways[max(i, 0)] // what is about no gateway alone is said here
		g.Findings = append(g.Findings, report.Symptom{Code: p.Code, Severity: p.Severity,
			Problem: p.Severity != "odd" && p.Severity != "unknown",
			Where:   about(p.Group), What: p.What, Remedy: p.Remedy})
	}
	self := &out.Gateways[0]
	self.Findings = in.here(self.Findings)
	if !in.all {
		for _, g := range out.Gateways[1:] {
			for _, f := range g.Findings {
				if f.Problem {
					out.Elsewhere++
				}
			}
		}
		out.Gateways = out.Gateways[:1]
	}
	return out
}

// here adds what carpd says to what sasyncd says of this gateway. Of what both say,
// the words of carpd stay, which has the details, with the worse severity.
func (in *intake) here(list []report.Symptom) []report.Symptom {
	out := []report.Symptom{}
	if err := in.sasyncdErr; err != nil {
		out = append(out, silent(sasyncdLost, "sasyncd", err))
	}
	lost := string(judge.ElectorLost)
	if err := in.carpdErr; err != nil && !slices.ContainsFunc(list,
		func(s report.Symptom) bool { return s.Code == lost }) {
		out = append(out, silent(lost, "carpd", err))
	}
	told := map[string]string{} // severity by code
	for _, s := range list {
		if slices.ContainsFunc(in.carpd, func(f doctor.Finding) bool { return string(f.Code) == s.Code }) {
			if told[s.Code] == "" {
				told[s.Code] = s.Severity
			}
			continue
		}
		out = append(out, s)
	}
	for _, f := range in.carpd {
		s := report.Symptom{Code: string(f.Code), Severity: told[string(f.Code)], Problem: f.Problem, Where: f.Where,
			What: f.What, Remedy: f.Remedy}
		switch {
		case s.Severity == "fails" || s.Severity == "costs":
			s.Problem = true
		case s.Severity == "" && f.Problem:
			s.Severity = "odd"
		case s.Severity == "":
			s.Severity = note
		}
		out = append(out, s)
	}
	order := []string{"fails", "unknown", "costs", "odd", note}
	slices.SortStableFunc(out, func(a, b report.Symptom) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
	return out
}

// silent is the finding for a daemon that cannot be asked.
func silent(code, program string, err error) report.Symptom {
	s := report.Symptom{Code: code, Severity: "fails", Problem: true, Where: program, What: err.Error(),
		Remedy: "systemctl start " + program + "; journalctl -u " + program + " says why it ended"}
	if errors.Is(err, fs.ErrPermission) {
		s.Severity, s.Problem, s.Remedy = "unknown", false,
			"run it as root, or as a user who may open the control sockets"
	}
	return s
}

func about(group string) string {
	if group == "" {
		return ""
	}
	return "group " + group
}

// sickness is the exit code: a problem, else what cannot be told, else nothing.
func sickness(x report.Examination) int {
	code := daemon.ExitOK
	for _, g := range x.Gateways {
		for _, f := range g.Findings {
			switch {
			case f.Problem:
				return daemon.ExitFailure
			case f.Severity == "unknown":
				code = daemon.ExitUnknown
			}
		}
	}
	return code
}

// examined prints an examination for people.
func examined(out io.Writer, x report.Examination, paint term.Paint) error {
	var b strings.Builder
	for _, g := range x.Gateways {
		b.WriteString(gatewayLine(g.Gateway) + "\n")
		sick := false
		for _, f := range g.Findings {
			where := ""
			if f.Where != "" {
				where = f.Where + ": "
			}
			sick = sick || f.Problem || f.Severity == "unknown"
			b.WriteString(doctor.Text(f.Problem || f.Severity == "unknown", where, f.What, f.Remedy, paint))
		}
		if !sick {
			b.WriteString(paint.Good(doctor.NoProblem) + "\n")
		}
	}
	if x.Elsewhere > 0 {
		fmt.Fprintf(&b, "%s of other gateways: sasyncctl doctor -a\n", plural(x.Elsewhere, "problem", "problems"))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// gatewayLine names a gateway and what runs there.
func gatewayLine(g report.Gateway) string {
	name := g.Name
	if g.Host != "" && g.Host != g.Name {
		name = g.Host + " (" + g.Name + ")"
	}
	switch {
	case !g.Reports && g.Name == report.ThisGateway:
		return name + ":"
	case !g.Reports:
		return name + ", which has not reported:"
	}
	return name + ", " + g.Version + ", tracker " + g.Elector + ":"
}
