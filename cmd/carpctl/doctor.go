package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/doctor"
	"sasyncd/cmd/internal/term"
)

// errSick is that doctor found a problem.
var errSick = errors.New("problems found")

// examine looks at this machine's election and prints what it found.
func examine(ctx context.Context, c *api.Conn, asJSON bool, out io.Writer, paint term.Paint) error {
	list, err := doctor.Examine(ctx, c)
	if err != nil {
		return err
	}
	return tell(out, list, asJSON, paint)
}

// diagnosis is what doctor prints with -j.
type diagnosis struct {
	Findings []doctor.Finding `json:"findings"`
}

// tell prints what was found. The error says whether a problem is among it.
func tell(out io.Writer, list []doctor.Finding, asJSON bool, paint term.Paint) error {
	sick := false
	var b strings.Builder
	for _, f := range list {
		sick = sick || f.Problem
		b.WriteString(doctor.Text(f.Problem, f.Where+": ", f.What, f.Remedy, paint))
	}
	if !sick {
		b.WriteString(paint.Good(doctor.NoProblem) + "\n")
	}
	var err error
	if asJSON {
		err = printJSON(out, diagnosis{list})
	} else {
		_, err = io.WriteString(out, b.String())
	}
	if err == nil && sick {
		err = errSick
	}
	return err
}
