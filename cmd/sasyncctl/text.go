package main

import (
	"fmt"
	"strings"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/term"
	"sasyncd/sync/engine"
)

// columns is what text is laid out for.
const columns = term.Columns

// ago prints how long ago something was.
func ago(t time.Time) string { return span(time.Since(t)) }

// span prints a duration in its two greatest units.
func span(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// gap prints a length of silence.
func gap(seconds float64) string {
	if seconds < 1 {
		return fmt.Sprintf("%.0f ms", 1000*seconds)
	}
	return fmt.Sprintf("%.1f s", seconds)
}

// count prints a number in at most five characters.
func count(n float64) string {
	for _, u := range []struct {
		at   float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}} {
		scale := u.at
		if u.name == "k" {
			scale = 1e3
		}
		if n >= u.at {
			v := n / scale
			if v < 100 {
				return fmt.Sprintf("%.1f%s", v, u.name)
			}
			return fmt.Sprintf("%.0f%s", v, u.name)
		}
	}
	if n < 10 && n != float64(int64(n)) {
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.0f", n)
}

// named prints the name of a group; the only one that takes in all has none.
func named(group string) string {
	if group == "" {
		return "(all)"
	}
	return group
}

// title is the name of a group, and its instances where they have other names.
func title(g engine.GroupStatus) string {
	return daemon.GroupTitle(named(g.Name), g.Instances)
}

// plural prints a number with its noun.
func plural[T int | uint64](n T, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// table prints rows in aligned columns, cut to the width that is laid out for.
func table(rows [][]string) []string {
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	var out []string
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			b.WriteString(c)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-len([]rune(c))+2))
			}
		}
		out = append(out, strings.TrimRight(b.String(), " "))
	}
	return out
}
