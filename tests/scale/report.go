package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"sasyncd/sync/sadb"
)

// Marks between which a page's tables are.
const (
	beginMark = "<!-- made by make scale: begin -->\n"
	endMark   = "<!-- made by make scale: end -->\n"
)

// publish replaces the tables of a page by those of a run.
func publish(from, page string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var r Run
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no marks for the tables", page)
	}
	return os.WriteFile(page, []byte(before+beginMark+tables(&r)+endMark+after), 0o644)
}

func tables(r *Run) string {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	where := "Linux " + r.Kernel
	if r.Guest {
		where += " as user-mode-linux: all gateways, the network and what moves the counters share one processor"
	}
	if r.Beside {
		where += ", while other work ran on the host"
	}
	p("Run of %s, commit %s, %s, %s, %s.\n\n", r.At.Format("2006-01-02 15:04"), r.Version, r.Go, r.Processor, where)
	p("| SAs | standbys | all complete after | snapshot, bytes/SA | master, RSS | a standby, RSS | a reading of the " +
		"kernel | quiet: master, standby CPU | counters moved/s | then: master, standby CPU | bytes/s to all " +
		"standbys | oldest counters |\n")
	p("|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, x := range r.Rows {
		p("| %d | %d | %.1f s | %.0f | %.0f MB | %.0f MB | %.0f ms | %.1f %%, %.1f %% | %d | %.1f %%, %.1f %% | %.0f "+
			"| %.1f s |\n", x.SAs, x.Standbys, x.Complete, x.Snapshot,
			x.MasterRSS/1e6, x.StandbyRSS/1e6, x.Reading*1000, x.Idle.Master, x.Idle.Standby, x.Moved, x.Busy.Master,
			x.Busy.Standby, x.Busy.Wire, x.Stale)
	}
	p("\nRate of one SA, and what its counter asks for (`sadb.Margin`, with the default margins, counters every " +
		"second and a failure noticed within one):\n\n")
	p("| packets/s | margin with ESN | lead is enough while counters are no older than | margin of 32 bits | 32 bits " +
		"last for | covered for |\n|---|---|---|---|---|---|\n")
	m := sadb.DefaultMargin()
	for _, rate := range []float64{1e3, 1e4, 1e5, 1e6, 1e7} {
		esn, _ := m.Lead(true, rate, 0)
		legacy, ok := m.Lead(false, rate, 0)
		// Until when the largest lead that a receiver takes covers the rate.
		most := time.Duration(float64(sadb.MaxLeadESN)/(4*rate)*float64(time.Second)) - m.Interval - m.Detection
		last := time.Duration(float64(1<<32) / rate * float64(time.Second))
		covered := time.Duration(float64(sadb.MaxLegacy-legacy) / rate * float64(time.Second))
		cover := covered.Round(time.Second).String()
		if !ok || legacy >= sadb.MaxLegacy {
			cover = "never"
		}
		p("| %.0f | %d | %s | %d | %s | %s |\n", rate, esn, most.Round(time.Second), legacy, last.Round(time.Second),
			cover)
	}
	return b.String()
}
