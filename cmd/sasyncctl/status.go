package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sasyncd/cmd/internal/doctor"
	"sasyncd/cmd/internal/judge"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/internal/term"
	"sasyncd/sync/engine"
)

// wrongMost is how many of the things that are wrong a status names.
const wrongMost = 4

// status prints all that an operator looks for first, in one screen.
func status(out io.Writer, s report.Status, paint term.Paint) error {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(term.Clip(fmt.Sprintf(format, args...), columns) + "\n")
	}
	if p := worst(s.Check); p != nil {
		text := term.Wrap(doctor.Problem, "  ", p.Where()+p.What)
		b.WriteString(paint.Bad(doctor.Problem) + strings.TrimPrefix(text, doctor.Problem))
	}
	connected := 0
	for _, p := range s.Peers {
		if p.Connected {
			connected++
		}
	}
	line("%s: node %.8s, %d of %s connected, %s", s.Host, s.Node, connected, plural(len(s.Peers), "peer", "peers"),
		s.Version)
	for _, g := range s.Groups {
		group(line, g, s.Seen)
	}
	b.WriteString(answer(s.Check.Answer, term.Clip(s.Check.Summary, columns), paint) + "\n")
	wrong(line, "wrong", s.Check.Reasons)
	wrong(line, "also", s.Check.Warnings)
	_, err := io.WriteString(out, b.String())
	return err
}

// worst is the finding that a status begins with: the worst of those for which a
// failover would not work, or else one of this gateway that costs something now, or a
// MASTER whose tables were emptied. nil if there is none.
func worst(v report.Verdict) *report.Problem {
	if len(v.Reasons) > 0 {
		return &v.Reasons[0]
	}
	for i := range v.Warnings {
		if p := &v.Warnings[i]; p.Severity == "costs" && (p.Member == report.ThisGateway ||
			p.Code == string(judge.Emptied)) {
			return p
		}
	}
	return nil
}

func wrong(line func(string, ...any), title string, list []report.Problem) {
	if len(list) == 0 {
		return
	}
	for i, p := range list {
		if i == wrongMost {
			line("  and %d more", len(list)-i)
			break
		}
		what := strings.TrimPrefix(p.Where(), "group ") + p.What
		for l := range strings.Lines(term.Wrap(fmt.Sprintf("  %-6s ", title), "         ", what)) {
			line("%s", strings.TrimSuffix(l, "\n"))
		}
	}
	line("  `sasyncctl check` says what to do")
}

func group(line func(string, ...any), g engine.GroupStatus, seen []report.Seen) {
	field := func(label, format string, args ...any) { line("  %-9s %s", label, fmt.Sprintf(format, args...)) }
	line("group %s: %s for %s, term %d: %s", title(g), g.Role, ago(g.Since), g.Term, g.Reason)
	var vips []string
	for _, a := range g.VIPs {
		vips = append(vips, a.String())
	}
	if len(vips) > 0 {
		for l := range strings.Lines(term.Wrap("  vips      ", "            ", strings.Join(vips, " "))) {
			line("%s", strings.TrimSuffix(l, "\n"))
		}
	}
	holds := plural(g.SAs, "SA", "SAs") + ", " + plural(g.Policies, "policy", "policies")
	if g.Held > 0 {
		holds += ", " + plural(g.Held, "deletion", "deletions") + " held back"
	}
	if g.Offloaded > 0 {
		holds += fmt.Sprintf(", %d offloaded SAs left out", g.Offloaded)
	}
	field("holds", "%s", holds)
	if g.Role == "MASTER" {
		for _, st := range g.Standbys {
			field("standby", "%s: %s", st.Peer, standby(st))
		}
		if len(g.Standbys) == 0 {
			field("standby", "none")
		}
		field("margin", "%s packets ahead on standbys, %s for 32-bit numbers", count(float64(g.MarginESN)),
			count(float64(g.MarginLegacy)))
	} else {
		master := masterOf(g)
		if master == "" {
			master = "none known"
		}
		field("master", "%s", master)
		elsewhere(line, g, seen)
		backup(field, g)
	}
	if k := g.Keying; k.Driver != "" {
		field("ike", "%s", ike(k))
	}
	if f := g.LastFailover; f != nil {
		field("last", "%s", failover(f))
	}
}

func standby(st engine.StandbyStatus) string {
	if p := st.Snapshot; p != nil {
		return fmt.Sprintf("receives a snapshot, %d of %d", p.Done, p.Of)
	}
	state := "in sync"
	if !st.InSync {
		state = "not in sync"
	}
	return fmt.Sprintf("%s, lag %.1f s, %s packets, %s", state, st.Lag, count(float64(st.LagPackets)),
		plural(st.Unacked, "change", "changes"))
}

// masterOf names the MASTER that a standby has a session with, "" for none.
func masterOf(g engine.GroupStatus) (master string) {
	for _, p := range g.Peers {
		if p.Role == "MASTER" {
			master = fmt.Sprintf("%s (term %d)", p.Peer, p.Term)
		}
	}
	return master
}

// elsewhere prints the MASTER that a standby knows by way of another gateway only.
func elsewhere(line func(string, ...any), g engine.GroupStatus, seen []report.Seen) {
	if masterOf(g) != "" {
		return
	}
	for _, s := range seen {
		if !slices.ContainsFunc(s.Roles, func(r report.SeenRole) bool {
			return r.Group == g.Name &&
				r.Role == "MASTER"
		}) {
			continue
		}
		text := fmt.Sprintf("%s is alive and MASTER of %s, seen by way of %s %.1f s ago: %s", s.Name(), named(g.Name),
			s.Via, s.Age, s.Link())
		for l := range strings.Lines(term.Wrap("  elsewhere ", "            ", text)) {
			line("%s", strings.TrimSuffix(l, "\n"))
		}
	}
}

// backup prints what only a standby has, its MASTER aside.
func backup(field func(string, string, ...any), g engine.GroupStatus) {
	sync := "not in sync"
	if g.InSync {
		sync = "in sync"
	}
	sync += ": " + g.Why
	if p := g.Snapshot; p != nil {
		sync += fmt.Sprintf(", snapshot %d of %d", p.Done, p.Of)
	}
	if g.CounterAge > 0 {
		sync += fmt.Sprintf("; counters %.1f s old", g.CounterAge)
	}
	field("this node", "%s", sync)
	if g.LeadSeconds > 0 {
		field("margin", "%s packets ahead of the master, for %s at its highest rate", count(float64(g.LeadPackets)),
			span(time.Duration(min(g.LeadSeconds, 1e9)*float64(time.Second))))
	} else {
		field("margin", "%s packets, %s for 32-bit numbers; no traffic seen", count(float64(g.MarginESN)),
			count(float64(g.MarginLegacy)))
	}
	if g.Refused+g.Uncovered > 0 {
		field("lost", "%d items refused by the kernel, %d SAs uncovered", g.Refused, g.Uncovered)
	}
}

func ike(k engine.KeyingStatus) string {
	s := k.Driver + " " + k.State
	if k.Wanted > 0 {
		s += fmt.Sprintf(", %d of %d tunnels up", k.Up, k.Wanted)
	}
	if k.Failed > 0 {
		s += fmt.Sprintf(", %d failed", k.Failed)
	}
	if k.Stop != "" { // whether it has the semantics of isakmpd -S
		s += ", its stop " + k.Stop
	}
	if k.Error != "" {
		s += ": " + k.Error
	}
	return s
}

func failover(f *engine.Failover) string {
	kind := "unplanned"
	if f.Planned {
		kind = "planned"
	}
	from := f.From
	if from == "" {
		return fmt.Sprintf("%s ago %s became MASTER, nobody was before (%s)", ago(f.At), f.To, f.Reason)
	}
	if f.From == f.To {
		return fmt.Sprintf("%s ago, %s: nobody took over, MASTER again after %s", ago(f.At), kind, gap(f.GapSeconds))
	}
	return fmt.Sprintf("%s ago %s -> %s, %s, gap %s (%s)", ago(f.At), from, f.To, kind, gap(f.GapSeconds), f.Reason)
}

// answer paints words that say yes, no or that it cannot be told.
func answer(answer, words string, paint term.Paint) string {
	switch answer {
	case report.AnswerYes:
		return paint.Good(words)
	case report.AnswerUnknown:
		return paint.Doubtful(words)
	}
	return paint.Bad(words)
}

// check prints a verdict with the reasons and what to do about each.
func check(out io.Writer, v report.Verdict, paint term.Paint) error {
	var b strings.Builder
	b.WriteString(answer(v.Answer, v.Summary, paint) + "\n")
	problems(&b, v.Reasons)
	problems(&b, v.Warnings)
	_, err := io.WriteString(out, b.String())
	return err
}

// peers prints the peers of the configuration, and whom only gossip knows.
func peers(out io.Writer, v report.Peers) error {
	rows := [][]string{{"PEER", "NODE", "KERNEL", "STATE"}}
	known, reached := map[string]bool{}, false
	for _, p := range v.Peers {
		known[p.Node], reached = true, reached || p.Connected
		state := "not connected"
		if p.Connected {
			state = fmt.Sprintf("connected for %s, rtt %.1f ms", ago(p.Since), 1000*p.RTT)
		}
		rows = append(rows, []string{p.Name, dash(fmt.Sprintf("%.8s", p.Node)), dash(p.Kernel), state})
	}
	for _, m := range v.Members {
		if m.Direct || known[m.Node] && !reached || m.Seen != nil && m.Seen.Peer != "" {
			continue // then nobody could tell, or its peer's line does
		}
		state := "alive, no session from here"
		switch {
		case !m.Alive:
			state = "gone"
		case m.Seen != nil:
			state = fmt.Sprintf("alive, by way of %s %.1f s ago", m.Seen.Via, m.Seen.Age)
		}
		rows = append(rows, []string{fmt.Sprintf("(%s %s)", m.Host, strings.Join(m.Addresses, " ")),
			fmt.Sprintf("%.8s", m.Node), "-", state})
	}
	lines := table(rows)
	if err := printLines(out, lines[:1]); err != nil {
		return err
	}
	for i, l := range lines[1:] {
		text := term.Clip(l, columns) + "\n"
		if i < len(v.Peers) {
			text += besides(v.Peers[i], v.Members)
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
	}
	return nil
}

// besides is what is to be said of a peer beside its line.
func besides(p report.Peer, members []report.Member) (text string) {
	if p.FoundBy != "" {
		text = term.Wrap("  ", "    ", "found by "+p.FoundBy)
	}
	if p.Trouble != "" {
		text += term.Wrap("  why: ", "    ", p.Trouble)
	}
	for _, m := range members {
		s := m.Seen
		if s == nil || s.Peer != p.Name {
			continue
		}
		var roles []string
		for _, r := range s.Roles {
			roles = append(roles, r.Role+" of "+named(r.Group))
		}
		if len(roles) > 0 {
			roles[0] = " and " + roles[0]
		}
		text += term.Wrap("  ", "    ", fmt.Sprintf("is alive%s, seen by way of %s %.1f s ago: %s",
			strings.Join(roles, ", "), s.Via, s.Age, s.Link()))
	}
	return text
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func printLines(out io.Writer, lines []string) error {
	for _, l := range lines {
		if _, err := fmt.Fprintln(out, term.Clip(l, columns)); err != nil {
			return err
		}
	}
	return nil
}

// diff prints differences; digests stand for keys.
func diff(out io.Writer, d report.Diff) error {
	var rows [][]string
	for _, x := range d.Differences {
		rows = append(rows, []string{x.Group, x.How, x.Item})
	}
	lines := table(rows)
	var b strings.Builder
	for i, x := range d.Differences {
		b.WriteString(lines[i] + "\n")
		for _, f := range x.Fields {
			fmt.Fprintf(&b, "  %s: here %s, there %s\n", f.Field, f.Here, f.There)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
