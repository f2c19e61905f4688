package result

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sasyncd/tests/reliability"
)

// Marks between which a page's table is.
const (
	beginMark = "<!-- made by make bench: begin -->\n"
	endMark   = "<!-- made by make bench: end -->\n"
)

// Read reads a report.
func Read(file string) (*Report, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return r, nil
}

// Write writes a report.
func (r *Report) Write(file string) error {
	var b bytes.Buffer
	if err := r.Encode(&b); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// Encode writes the report as JSON.
func (r *Report) Encode(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Merge puts the parts of a run together. A part that is missing is named among
// what could not be measured.
func Merge(files ...string) (*Report, error) {
	var all *Report
	var missing []error
	for _, f := range files {
		r, err := Read(f)
		if err != nil {
			missing = append(missing, err)
			continue
		}
		if all == nil {
			all = r
			continue
		}
		all.Seconds += r.Seconds
		all.Lines = append(all.Lines, r.Lines...)
		all.Failed = append(all.Failed, r.Failed...)
	}
	if all == nil {
		return nil, errors.Join(missing...)
	}
	for _, err := range missing {
		all.Failed = append(all.Failed, err.Error())
	}
	return all, nil
}

// Drills adds what drills have shown, from what "make reliability" has kept of
// them: what takes a thousand failovers is not for a benchmark.
func (r *Report) Drills(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var doc reliability.Results
	if err := json.Unmarshal(b, &doc); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	const enough = 1000
	l := Line{What: "sequence numbers sent twice; packets refused for their number",
		Target: fmt.Sprintf("0; 0 in %d failovers", enough)}
	if len(doc.Runs) == 0 {
		l.Figure, l.Verdict, l.Machine = "no result is kept", NotShown, "make drill-thousand"
	} else {
		run := doc.Runs[len(doc.Runs)-1]
		l.Figure = fmt.Sprintf("%d; %d in %d failovers", run.Duplicates, run.Refused, run.Failovers)
		l.Machine = fmt.Sprintf("make drill-thousand, %s, version %s of %s", run.Kernel, run.Version, run.Date)
		l.Verdict = Of(run.Duplicates == 0 && run.Refused == 0 && !run.Failed)
		if l.Verdict == Met && run.Failovers < enough {
			l.Verdict = NotShown
		}
	}
	r.Lines = append(r.Lines, l)
	return nil
}

// Publish replaces the table of a page.
func (r *Report) Publish(page string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no marks for the table", page)
	}
	return os.WriteFile(page, []byte(before+beginMark+r.Markdown()+endMark+after), 0o644)
}
