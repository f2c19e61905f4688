package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Ground is a release of Debian on which drills run in a root directory of their own.
// A gate on it is a target of the Makefile: ground-, the release, and the target.
type Ground struct{ Release, Name string }

// Grounds are all of them.
var Grounds = []Ground{{"trixie", "Debian 13"}, {"sid", "Debian sid"}}

// Suite is what runs on each ground: a target of the Makefile.
type Suite struct {
	Target, Shows string
	Takes         time.Duration
}

// Suites are all of them.
var Suites = []Suite{
	{"suite-conformance", "the codec and the fake kernel agree with the kernel", 2 * time.Minute},
	{"suite-replication", "replication between daemons and kernels", 3 * time.Minute},
	{"suite-drills", "failovers with ESP and traffic", 6 * time.Minute},
	{"suite-election", "the election on real interfaces", 3 * time.Minute},
	{"suite-interop", "beside that release's keepalived, FRR and ucarp", 2 * time.Minute},
	{"drill-kernels", "a pair of that release's kernel and that of the release before", 3 * time.Minute},
	{"drill-ike", "that release's strongSwan, libreswan and OpenIKED", 15 * time.Minute},
	{"drill-package", "the package under that release's systemd", 4 * time.Minute},
	{"drill-static", "`control static`", time.Minute},
	{"drill-qemu", "xfrm interfaces, nf_tables and conntrackd with that release's cloud kernel", 12 * time.Minute},
}

// onGrounds are the gates of all suites on all grounds.
func onGrounds() (list []Gate) {
	for _, ground := range Grounds {
		for _, s := range Suites {
			list = append(list, Gate{
				Name:  "ground-" + ground.Release + "-" + s.Target,
				Shows: ground.Name + ": " + s.Shows,
				Takes: s.Takes,
				Needs: "root, mmdebstrap, a mirror of Debian",
			})
		}
	}
	return list
}

// onGround returns the ground and the target of a gate that runs on one.
func onGround(name string) (ground Ground, target string, ok bool) {
	rest, ok := strings.CutPrefix(name, "ground-")
	if !ok {
		return Ground{}, name, false
	}
	release, target, ok := strings.Cut(rest, "-")
	i := slices.IndexFunc(Grounds, func(g Ground) bool { return g.Release == release })
	if !ok || i < 0 {
		return Ground{}, name, false
	}
	return Grounds[i], target, true
}

// Where the table of grounds stands.
const (
	GroundsPage  = "docs/platforms.md"
	GroundsBegin = "<!-- generated: grounds -->\n"
	GroundsEnd   = "<!-- end of generated: grounds -->\n"
)

// WithGrounds returns a page with the table of what passed on which ground, as it is
// for a tree. The page has the two marks between which the table stands.
func WithGrounds(page string, results *Results, now *Tree) (string, error) {
	before, rest, found := strings.Cut(page, GroundsBegin)
	_, after, ended := strings.Cut(rest, GroundsEnd)
	if !found || !ended {
		return "", fmt.Errorf("%s has no %q and %q", GroundsPage, GroundsBegin, GroundsEnd)
	}
	var b strings.Builder
	for _, ground := range Grounds {
		if on := newest(results, ground); on != "" {
			b.WriteString(wrap(fmt.Sprintf("* %s: %s.", ground.Name, on), "  "))
		}
	}
	b.WriteString("\n| suite |")
	for _, ground := range Grounds {
		fmt.Fprintf(&b, " %s |", ground.Name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(Grounds)) + "\n")
	for _, s := range Suites {
		fmt.Fprintf(&b, "| `%s`: %s |", s.Target, cell(s.Shows))
		for _, ground := range Grounds {
			last := results.Last("ground-" + ground.Release + "-" + s.Target)
			if last == nil {
				b.WriteString(" not run |")
				continue
			}
			outcome := cell(last.Outcome())
			if !last.OK() {
				outcome = "**failed**" + strings.TrimPrefix(outcome, "failed")
			}
			fmt.Fprintf(&b, " %s; %s, %s%s |", outcome, last.Began.UTC().Format("2006-01-02"), short(last.Commit),
				cell(since(now, last)))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	return before + GroundsBegin + b.String() + GroundsEnd + after, nil
}

// newest says of what a ground was made, as its last run has printed it.
func newest(results *Results, ground Ground) string {
	var last *Run
	for i := range results.Runs {
		r := &results.Runs[i]
		if g, _, ok := onGround(r.Gate); ok && g == ground && r.Ground != "" &&
			(last == nil || r.Began.After(last.Began)) {
			last = r
		}
	}
	if last == nil {
		return ""
	}
	return last.Ground
}
