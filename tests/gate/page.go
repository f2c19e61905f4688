package gate

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// The text of the page, by paragraph.
const (
	title = "# Drills: what there is, and how each last ended\n\n"

	generated = "For developers, and for everybody who asks what was shown. This page lists the drills, what each " +
		"shows, and how each last ended. It is generated: `make gate-page` makes it of `tests/gate/data.go` and " +
		"`docs/drills.json`. " +
		"`make gate` writes `docs/drills.json`. An entry there is the last run of one gate, and nothing in it is " +
		"written by hand."
	gates = "A gate is a target of the Makefile that has to pass before a release. `make test` is what continuous " +
		"integration runs. What takes longer, or needs more than it installs, has a target of its own."
	running = "`make gate` runs all gates one after the other, for about %s. It wants a clean checkout, since a " +
		"result is of a commit. It goes on after a failure, ends with a table, and fails if one gate failed. The " +
		"logs are in `dist/gate`. A failed run replaces one that passed. A gate that is interrupted gets no entry."
	commands = "    make gate GATES=\"drill-nodes mutants\"   # only these\n" +
		"    make gate CONTINUE=1                    # goes on: leaves out what has passed at this commit\n\n"
	files = "Some gates write files into the checkout, a measured table for example. The gate takes them out before " +
		"the next one begins, and puts them back at the end. So every gate runs on the commit as it is. A target " +
		"runs with the Makefile's own settings and without what go remembers of earlier tests. `make reliability` " +
		"then takes what the gates have left in `dist` into [reliability.md](reliability.md)."
	grounds = "`make drill-ground GROUND=trixie` and `GROUND=sid` run suites on other releases of Debian: in a root " +
		"directory of that release, with its kernel in guests, its tools and its daemons. Each suite on each release is a " +
		"gate of its own (`GATES=\"ground-trixie-drill-ike\"`). Their results are in " +
		"[platforms.md](platforms.md#what-was-tried)."
	older = "A result is of the commit beside it. Where code has changed since that the gate runs, the result says " +
		"\"older than\" and names the folders. Unit tests beside the product's code count for gates that run them."

	machines = "The times are of a machine with two processors whose kernel has no ESP. What needs ESP uses kernels " +
		"of user-mode-linux there unless said otherwise. A gate that needs the machine alone measures times, and " +
		"measures whatever else runs there with them."

	limits = "A guest of user-mode-linux has one processor, which both gateways and what measures them share. So no " +
		"figure of it says what real gateways do. Its kernel has no nf_tables to speak of. Firewalls are shown where " +
		"the tests run as root on the machine's own kernel, and on Debian's cloud kernel under qemu. Where qemu has " +
		"to emulate the processor, everything takes 12 times as long, and the drills stretch their intervals and " +
		"limits."

	before = "These results were written by hand, of runs on the machine above. A line stays until its gate has an " +
		"entry."
)

// Render writes docs/drills.md, as it is for a tree.
func Render(w io.Writer, list []Gate, results *Results, now *Tree) error {
	all, err := Choose(list, nil, new(Results), "", false)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(title + wrap(generated, "") + "\n" + wrap(gates, "") + "\n" +
		wrap(fmt.Sprintf(running, hours(all.Takes())), "") + "\n" + commands + wrap(files, ""))
	b.WriteString("\n## What there is\n\n" + wrap(machines, "") +
		"\n| target | what it shows | takes about | needs |\n|---|---|---|---|\n")
	for _, g := range list {
		if _, _, ok := onGround(g.Name); ok {
			continue
		}
		fmt.Fprintf(&b, "| `make %s` | %s | %s | %s |\n", g.Name, cell(g.Shows), Took(g.Takes), cell(g.needs()))
	}
	b.WriteString("\n" + wrap(grounds, ""))
	b.WriteString("\n## How each last ended\n\n" + wrap(older, "") +
		"\n| target | commit | began (UTC) | took | machine | result |\n|---|---|---|---|---|---|\n")
	for _, g := range list {
		if _, _, ok := onGround(g.Name); ok {
			continue
		}
		last := results.Last(g.Name)
		if last == nil {
			text := "not run by the gate yet"
			if g.InTest {
				text += "; `make test` runs it"
			}
			fmt.Fprintf(&b, "| `make %s` |  |  |  |  | %s |\n", g.Name, text)
			continue
		}
		outcome := cell(last.Outcome())
		if !last.OK() {
			outcome = "**failed**" + strings.TrimPrefix(outcome, "failed")
		}
		fmt.Fprintf(&b, "| `make %s` | %s | %s | %s | %s | %s |\n", g.Name, short(last.Commit),
			last.Began.UTC().Format("2006-01-02 15:04"), Took(time.Duration(last.Seconds)*time.Second),
			cell(last.Machine), outcome+cell(since(now, last)))
	}
	b.WriteString("\n## What these drills cannot show\n\n" + wrap(limits, "") + "\n")
	gaps(&b, list)
	byHand(&b, list, results)
	_, err = io.WriteString(w, strings.TrimRight(b.String(), "\n")+"\n")
	return err
}

// since says what has changed since a run that the gate depends on.
func since(now *Tree, r *Run) string {
	areas, known := now.Changed(r)
	switch {
	case !known:
		return "; its code is not known"
	case len(areas) == 0:
		return ""
	case len(areas) > 4:
		return fmt.Sprintf("; **older than** %s and %d more", strings.Join(areas[:3], ", "), len(areas)-3)
	}
	return "; **older than** " + strings.Join(areas, ", ")
}

// gaps lists what is known not to be shown, or not to be explained.
func gaps(b *strings.Builder, list []Gate) {
	first := true
	for _, g := range list {
		if g.Gap == "" {
			continue
		}
		if first {
			b.WriteString("## Known gaps\n\n")
			first = false
		}
		b.WriteString(wrap(fmt.Sprintf("* `make %s`: %s", g.Name, g.Gap), "  "))
	}
	if !first {
		b.WriteString("\n")
	}
}

// byHand lists what is known of gates that have no entry.
func byHand(b *strings.Builder, list []Gate, results *Results) {
	first := true
	for _, g := range list {
		if g.Before == "" || results.Last(g.Name) != nil {
			continue
		}
		if first {
			b.WriteString("## Before the gate was made, by hand\n\n" + wrap(before, "") +
				"\n| target | result |\n|---|---|\n")
			first = false
		}
		fmt.Fprintf(b, "| `make %s` | %s |\n", g.Name, cell(g.Before))
	}
}

// needs are the conditions of a gate in words.
func (g *Gate) needs() string {
	parts := []string{}
	if g.Alone {
		parts = append(parts, "the machine alone")
	}
	if g.Needs != "" {
		parts = append(parts, g.Needs)
	}
	if g.InTest {
		parts = append(parts, "nothing: it is part of `make test`")
	}
	return strings.Join(parts, "; ")
}

// cell makes a text fit into a cell of a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

func short(commit string) string { return commit[:min(len(commit), 7)] }

// Took writes a duration as seconds below two minutes, and as minutes from there on.
func Took(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

func hours(d time.Duration) string {
	if d < 2*time.Hour {
		return Took(d)
	}
	return fmt.Sprintf("%.0f hours", d.Hours())
}

// wrap breaks a text into lines of at most 120 characters. All but the first begin
// with indent.
func wrap(text, indent string) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		switch {
		case column == 0:
		case column+1+len(word) > 120:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String() + "\n"
}
