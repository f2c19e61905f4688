package reliability

import (
	"fmt"
	"slices"
	"strings"
)

// renderLeaks writes what left in plaintext, with the leak guard and without, a table for
// each kernel.
func (r *Results) renderLeaks(b *strings.Builder) {
	if len(r.Leaks) == 0 {
		return
	}
	b.WriteString("## What leaves in plaintext while policies are gone\n\n")
	b.WriteString(stamps(r.Leaks, func(l Leak) Stamp { return Stamp{Version: l.Version, Date: l.Date} }))
	b.WriteString("Packets of hosts, and of tunnels of the gateway itself, that outbound policies protect, real ESP in " +
		"all rows. `no` is without the leak guard, `auto` is the default (the table of nf_tables), `yes` has the routes " +
		"too. Beside the packets that left in plaintext stands the time from the first to the last, and what the guard " +
		"dropped. `lost` is what was lost of packets that no policy is for: forwarded, and the gateway's own, outside " +
		"and inside; IKE is tried as well. `make drill-leaks` prints the rows.\n\n")
	for _, kernel := range distinct(r.Leaks, func(l Leak) string { return l.Kernel }) {
		list := slices.DeleteFunc(slices.Clone(r.Leaks), func(l Leak) bool { return l.Kernel != kernel })
		guards := distinct(list, func(l Leak) string { return l.Guard })
		fmt.Fprintf(b, "### %s\n\n| | %s | lost |\n|---|%s---|\n", kernel, strings.Join(guards, " | "),
			strings.Repeat("---|", len(guards)))
		for _, row := range distinct(list, func(l Leak) string { return l.Row }) {
			fmt.Fprintf(b, "| %s |", row)
			lost := 0
			for _, g := range guards {
				text := ""
				if i := slices.IndexFunc(list, func(l Leak) bool { return l.Row == row && l.Guard == g }); i >= 0 {
					text = list[i].text()
					lost += list[i].Lost
				}
				fmt.Fprintf(b, " %s |", text)
			}
			fmt.Fprintf(b, " %s |\n", thousands(lost))
		}
		b.WriteString("\n")
	}
}

// text is the cell of a result.
func (l *Leak) text() string {
	s := thousands(l.Plaintext)
	if l.Plaintext > 0 {
		s += fmt.Sprintf(" in %s ms", thousands(l.GapMS))
	}
	if l.Dropped > 0 {
		s += fmt.Sprintf("; %s dropped", thousands(l.Dropped))
	}
	return s
}

// distinct lists the values that a list has, in its order.
func distinct[T any](list []T, of func(T) string) (out []string) {
	for _, x := range list {
		if v := of(x); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}
