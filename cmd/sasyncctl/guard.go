package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"sasyncd/cmd/internal/doctor"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/internal/term"
)

// guard prints what the leak guard holds; after forget, what has become of it.
func guard(w io.Writer, g report.Guard, forgot bool, paint term.Paint) error {
	var b strings.Builder
	if len(g.Walls) == 0 {
		b.WriteString("there is no leak guard: see `guard` of sasyncd.conf(5)\n")
	} else {
		if forgot {
			fmt.Fprintf(&b, "%d selectors are forgotten\n", g.Forgotten)
		}
		fmt.Fprintf(&b, "guard by %s: %d selectors, %d of them without a policy; %d packets dropped\n",
			strings.Join(g.Walls, " and "), g.Selectors, g.Remembered, g.Dropped)
	}
	if g.Trouble != "" {
		fmt.Fprintf(&b, "%s%s\n", paint.Bad(doctor.Problem), g.Trouble)
	}
	if g.LeftOut != "" {
		fmt.Fprintf(&b, "not guarded: %s\n", g.LeftOut)
	}
	for _, x := range g.Gone {
		fmt.Fprintf(&b, "  %s  until %s\n", x.Selector, x.Until.Local().Format(time.DateTime))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
