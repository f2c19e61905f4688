package main

import (
	"fmt"
	"io"
	"strings"

	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/internal/term"
)

// last prints the latest failover of each group as a timeline, or all that are
// remembered.
func last(out io.Writer, v report.Last, all bool, paint term.Paint) error {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(term.Clip(fmt.Sprintf(format, args...), columns) + "\n")
	}
	for _, g := range v.Groups {
		if len(g.Failovers) == 0 {
			line("group %s: no failover is known", named(g.Group))
		}
		for i, t := range g.Failovers {
			if i > 0 && !all {
				break
			}
			line("group %s: %s", named(g.Group), failover(&t.Failover))
			timeline(&b, line, t, paint)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// timeline prints the steps of a failover: when each was done, how long it took.
func timeline(b *strings.Builder, line func(string, ...any), t report.Timeline, paint term.Paint) {
	line("  %s  %s", t.Began.Local().Format("2006-01-02 15:04:05.000"), t.FirstWords())
	before := 0.0
	for _, s := range t.Steps {
		text := term.Clip(fmt.Sprintf("  %11s %11s  %s", "+"+ms(s.After), ms(max(0, s.After-before)),
			report.StepWords(s.Step)), columns)
		if s.Step == t.Slowest {
			text = paint.Doubtful(text)
		}
		b.WriteString(text + "\n")
		before = max(before, s.After)
	}
	if t.Slowest != "" {
		line("  slowest: %s, %s", report.StepWords(t.Slowest), ms(t.SlowestSeconds))
	}
}

// ms writes seconds as milliseconds.
func ms(seconds float64) string { return fmt.Sprintf("%.1f ms", 1000*seconds) }
