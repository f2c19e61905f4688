package reliability

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// head is what the page begins with. What follows it is figures only.
const head = "# Reliability\n\n" +
	"For everybody who asks which faults were injected, and what happened. This page is generated from\n" +
	"`docs/reliability.json`, which holds what the drills printed (`make reliability`). Nothing in it is written by " +
	"hand.\n\n"

// invariants, in words, and how the matrix looks at each.
var invariants = []struct{ name, what, how string }{
	{"I1", "no ESP sequence number is sent twice",
		"all ESP on the WAN; refusals counted by the three kernels; counters of both gateways against the highest " +
			"number seen"},
	{"I2", "a master touches only what was imported", "an SA and a policy per gateway that belong to no group"},
	{"I3", "a backup sends no ESP", "ESP per cable between the takeovers that carpd logged, 150 ms after each (2.1 s " +
		"where carpd was stopped)"},
	{"I4", "after quiet, tables are equal", "digests of all SAs and policies of both kernels"},
	{"I5", "no daemon's end empties a kernel", "announcements of both kernels, tables afterwards"},
	{"I6", "a standby is not emptied before its replacement is complete",
		"announcements of both kernels: nothing that carries traffic is deleted, but by the test"},
	{"I7", "older never overrides newer", "terms of both nodes, what a node that returns had left"},
	{"I8", "who lacks the key learns nothing", "a stranger at both sync ports"},
	{"I9", "no key is shown", "logs of all daemons and answers of the control sockets, searched for all keys of the " +
		"kernels"},
	{"I10", "no work per SA before the virtual addresses",
		"order of the log; the gap, with 3,000 SAs in the snapshot column"},
	{"I11", "no backup without sasyncd takes over", "takeovers while sasyncd was down"},
	{"I12", "nothing leaves in plaintext", "every packet on the WAN"},
}

// Render writes the page.
func (r *Results) Render(w io.Writer) error {
	var b strings.Builder
	b.WriteString(head)
	r.renderRuns(&b)
	r.renderCells(&b)
	r.renderPredictions(&b)
	r.renderLeaks(&b)
	r.renderMutants(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// stamps sums up where results come from.
func stamps[T any](list []T, of func(T) Stamp) string {
	var parts []string
	add := func(what string, get func(Stamp) string) {
		var vs []string
		for _, x := range list {
			if v := get(of(x)); v != "" && !slices.Contains(vs, v) {
				vs = append(vs, v)
			}
		}
		if len(vs) > 0 {
			parts = append(parts, what+" "+strings.Join(vs, ", "))
		}
	}
	add("Version", func(s Stamp) string {
		if s.Version == "" {
			return ""
		}
		return "`" + s.Version + "`"
	})
	add("seed", func(s Stamp) string {
		if s.Seed == 0 {
			return ""
		}
		return fmt.Sprint(s.Seed)
	})
	add("kernel", func(s Stamp) string { return s.Kernel })
	add("date", func(s Stamp) string { return s.Date })
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, "; ") + ".\n\n"
}

func (r *Results) renderRuns(b *strings.Builder) {
	runs := slices.Clone(r.Runs)
	slices.SortFunc(runs, func(x, y Run) int { return cmp.Compare(y.Failovers, x.Failovers) })
	for _, run := range runs {
		fmt.Fprintf(b, "## %s failovers in a row\n\n", thousands(run.Failovers))
		b.WriteString(stamps([]Run{run}, func(r Run) Stamp { return r.Stamp }))
		b.WriteString("Two gateways in one guest, which is one processor; advertisements every 50 ms; four flows " +
			"through two tunnels. gw1 is lost in all ways, gw2 always hands back.\n\n")
		b.WriteString("| | | must be |\n|---|---|---|\n")
		row := func(what string, n int, must string) {
			fmt.Fprintf(b, "| %s | %s | %s |\n", what, thousands(n), must)
		}
		row("failovers", run.Failovers, "")
		row("cancelled besides, as the successor's machine stood still for more than an interval", run.Again,
			fmt.Sprintf("%d at most", run.Failovers/20))
		row("seconds", run.Seconds, "")
		row("packets sent", run.Sent, "")
		row("packets lost", run.Lost, "")
		row("ESP packets on the WAN", run.ESP, "")
		row("sequence numbers sent twice", run.Duplicates, "0")
		row("packets refused for their number, at all three ends", run.Refused, "0")
		row("packets in plaintext", run.Plaintext, "0")
		row("SAs and policies too many at the end", run.Leaked, "0")
		fmt.Fprintf(b, "\n| way to lose the master | times | median gap | 95th percentile | worst | packets lost "+
			"|\n|---|---|---|---|---|---|\n")
		for _, w := range run.Ways {
			fmt.Fprintf(b, "| %s | %d | %d ms | %d ms | %d ms | %d |\n", w.Name, w.Times, w.MedianMS, w.P95MS,
				w.WorstMS, w.Lost)
		}
		b.WriteString("\nWhat gw2's daemons, which lived through all of it, used from the 100th failover on and at " +
			"the end:\n\n")
		b.WriteString("| daemon | | early | late | more at most |\n|---|---|---|---|---|\n")
		use := slices.Clone(run.Use)
		slices.SortStableFunc(use, func(x, y Use) int { return cmp.Compare(x.Daemon, y.Daemon) })
		for _, u := range use {
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", u.Daemon, u.What, thousands(u.Early), thousands(u.Late),
				thousands(u.Allow))
		}
		fmt.Fprintf(b, "\nVerdict: %s.\n\n", map[bool]string{false: "ok", true: "**failed**"}[run.Failed])
	}
}

func (r *Results) renderCells(b *strings.Builder) {
	if len(r.Cells) == 0 {
		return
	}
	var faults, moments []string
	cells := map[[2]string]Cell{}
	for _, c := range r.Cells {
		if !slices.Contains(faults, c.Fault) {
			faults = append(faults, c.Fault)
		}
		if !slices.Contains(moments, c.Moment) {
			moments = append(moments, c.Moment)
		}
		cells[[2]string{c.Fault, c.Moment}] = c
	}
	fmt.Fprintf(b, "## Every fault at every moment\n\n")
	b.WriteString(stamps(r.Cells, func(c Cell) Stamp { return c.Stamp }))
	count := map[string]int{}
	for _, c := range r.Cells {
		count[c.Verdict]++
	}
	fmt.Fprintf(b, "%d cells ok, %d failed, %d that make no sense. After each cell all of I1 to I12 is looked at, as "+
		"far as the table below says, and traffic must flow again. ", count[OK], count[Failed], count[NA])
	b.WriteString("A figure is the longest gap in the traffic in milliseconds, beside what it may be; advertisements " +
		"come every 250 ms, both gateways and the hosts share one processor, and up to 150 ms are the guest's. " +
		"Without a figure, no traffic was metered. The fault hits the master, or whoever is becoming it; \"twice\" " +
		"is again within an interval. " +
		"Who dies while it is taking over, before the other has its tables, is waited for until its sync session has " +
		"been silent for 3 s: nobody takes over while another is known to hold more. A sasyncd that is stopped while " +
		"it is asked to prepare is waited for for `prepare-timeout`, 2 s; then the old master goes on. A standby " +
		"that is not complete, in the middle of a snapshot, then waits for `alone after`, 3 s here (I11); where the " +
		"master can go on sending, the rest of the snapshot has 2 s.\n\n")
	fmt.Fprintf(b, "| fault | %s |\n|---|%s\n", strings.Join(moments, " | "), strings.Repeat("---|", len(moments)))
	var notes []string
	for _, f := range faults {
		fmt.Fprintf(b, "| %s |", f)
		for _, m := range moments {
			c, ok := cells[[2]string{f, m}]
			text := "not run"
			if ok {
				text = c.Verdict
				if c.Verdict == Failed {
					text = "**failed**"
				}
				if c.GapMS >= 0 {
					text += fmt.Sprintf(" %d/%d", c.GapMS, c.BudgetMS)
				}
				if c.Reason != "" {
					notes = append(notes, fmt.Sprintf("* %s, %s: %s", f, m, strings.ReplaceAll(c.Reason, "\n", " ")))
				}
			}
			fmt.Fprintf(b, " %s |", text)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for _, n := range notes {
		b.WriteString(n + "\n")
	}
	if len(notes) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("| | invariant | what is read after each cell |\n|---|---|---|\n")
	for _, i := range invariants {
		fmt.Fprintf(b, "| %s | %s | %s |\n", i.name, i.what, i.how)
	}
	b.WriteString("\nWhat namespaces of one guest cannot show, a machine that freezes with its kernel and packets " +
		"that arrive in a burst, `make drill-nodes` shows.\n\n")
}

func (r *Results) renderMutants(b *strings.Builder) {
	if len(r.Mutants) == 0 {
		return
	}
	fmt.Fprintf(b, "## Each invariant without its mechanism\n\n")
	b.WriteString(stamps(r.Mutants, func(m Mutant) Stamp { return m.Stamp }))
	b.WriteString("Defects that `make mutants` plants, one at a time, and the test that fails first.\n\n")
	b.WriteString("| | defect | planted in | caught by |\n|---|---|---|---|\n")
	for _, m := range r.Mutants {
		by := "`" + m.By + "`"
		if m.Verdict != "caught" {
			by = "**" + m.Verdict + "**"
		}
		fmt.Fprintf(b, "| %s | %s | `%s` | %s |\n", m.Invariant, m.Name, m.File, by)
	}
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
