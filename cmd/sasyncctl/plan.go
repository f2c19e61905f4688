package main

import (
	"fmt"
	"io"
	"strings"

	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/internal/term"
)

// plan prints what failover would do.
func plan(out io.Writer, v report.Plan, paint term.Paint) error {
	var b strings.Builder
	for _, h := range v.Handovers {
		planned(&b, h, paint)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func planned(b *strings.Builder, h report.Planned, paint term.Paint) {
	line := func(format string, args ...any) {
		b.WriteString(term.Wrap("  ", "    ", fmt.Sprintf(format, args...)))
	}
	what := "would be refused without -f: " + h.Check.Summary
	if h.Check.Answer == report.AnswerYes {
		what = "would be handed over to " + successors(h.To)
	}
	fmt.Fprintf(b, "%s: %s\n", named(h.Group), answer(h.Check.Answer, what, paint))
	problems(b, h.Check.Reasons)
	if h.Check.Answer != report.AnswerYes && len(h.To) > 0 {
		line("with -f to %s", successors(h.To))
	}
	if len(h.To) > 0 {
		if h.Gap != nil {
			line("cost: a gap of about %s, as the last time, %s ago; sequence numbers and tunnels are kept",
				gap(*h.Gap), ago(*h.GapAt))
		} else {
			line("cost: a gap that is not known, as there was no planned hand-over since the start; sequence numbers " +
				"and tunnels are kept")
		}
	}
	if h.Negotiates > 0 {
		line("the IKE daemon there negotiates %s anew, beside the SAs in use",
			plural(h.Negotiates, "tunnel", "tunnels"))
	}
	if len(h.HoldBack) > 0 {
		line("%s would be asked to hold back", strings.Join(h.HoldBack, " and "))
	}
	if h.Unasked > 0 {
		line("%s not connected and could not be asked to hold back", plural(h.Unasked, "peer is", "peers are"))
	}
	problems(b, h.Check.Warnings)
}

// successors names who could take over, the likeliest first.
func successors(list []report.Successor) string {
	var names []string
	for _, s := range list {
		name := s.Peer
		if s.Host != "" && s.Host != s.Peer {
			name = s.Host + " (" + s.Peer + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", or to ")
}

// problems prints what is wrong, each with what to do about it.
func problems(b *strings.Builder, list []report.Problem) {
	for _, p := range list {
		b.WriteString(term.Wrap("  ", "    ", p.Where()+p.What))
		b.WriteString(term.Wrap("    remedy: ", "      ", p.Remedy))
	}
}
