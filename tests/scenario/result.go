package scenario

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/meter"
)

// Phase is a part of the scenario and what became of the traffic in it.
type Phase struct {
	Name     string
	From, To time.Time
	Budget   time.Duration // of the longest gap, 0 for none
	Steady   bool          // nothing may be lost
	Traffic  meter.Report  // lost: of the packets sent in the phase
	Refused  int           // for their sequence number, by rgw or a gateway
	Wire     capture.Counts

	refused int // when it began
}

// Result is what came of a run.
type Result struct {
	Phases   []Phase
	Total    Phase
	Transfer error // nil: the connection survived and all arrived
	Bytes    int64 // that the transfer carried
	Changed  []string
	Details  []string // of the first duplicates and packets in plaintext
}

// Missed says which budgets the phase missed.
func (p *Phase) Missed() []string {
	var list []string
	add := func(format string, args ...any) { list = append(list, p.Name+": "+fmt.Sprintf(format, args...)) }
	if p.Budget > 0 && p.Traffic.Gap > p.Budget {
		add("a gap of %.0f ms, budget %d ms", millis(p.Traffic.Gap), p.Budget.Milliseconds())
	}
	if p.Refused > 0 {
		add("%d packets refused for their sequence number", p.Refused)
	}
	if p.Wire.Duplicate > 0 {
		add("%d sequence numbers sent twice", p.Wire.Duplicate)
	}
	if p.Wire.Plaintext > 0 {
		add("%d packets in plaintext", p.Wire.Plaintext)
	}
	if p.Traffic.Sent == 0 {
		add("nothing was sent")
	}
	if p.Steady && p.Traffic.Lost > 0 {
		add("%d packets lost, although nothing that carries traffic was touched", p.Traffic.Lost)
	}
	return list
}

// Missed says all that is not as it should be; it is empty when all is well.
func (r *Result) Missed() []string {
	var list []string
	for i := range r.Phases {
		list = append(list, r.Phases[i].Missed()...)
	}
	list = append(list, r.Total.Missed()...)
	if r.Total.Wire.ESP == 0 {
		list = append(list, "no ESP was seen")
	}
	if r.Transfer != nil {
		list = append(list, r.Transfer.Error())
	} else if r.Bytes == 0 {
		list = append(list, "the TCP transfer carried nothing")
	}
	list = append(list, r.Changed...)
	return append(list, r.Details...)
}

// Print writes the table and the verdict.
func (r *Result) Print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "phase\tgap ms\tbudget\tidle ms\tsent\tlost\trefused\tduplicate\tplaintext\tESP\tverdict\t")
	row := func(p *Phase) {
		budget, verdict := "-", "ok"
		if p.Budget > 0 {
			budget = fmt.Sprint(p.Budget.Milliseconds())
		}
		if len(p.Missed()) > 0 {
			verdict = "MISSED"
		}
		fmt.Fprintf(tw, "%s\t%.0f\t%s\t%.0f\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", p.Name, millis(p.Traffic.Gap), budget,
			millis(p.Traffic.Idle), p.Traffic.Sent, p.Traffic.Lost, p.Refused, p.Wire.Duplicate, p.Wire.Plaintext,
			p.Wire.ESP, verdict)
	}
	for i := range r.Phases {
		row(&r.Phases[i])
	}
	row(&r.Total)
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, "idle: how long in the gap the sender itself stood still, because this machine was busy; not "+
		"counted\n\n")
	fmt.Fprintf(w, "TCP transfer: %s, %d kB\n", outcome(r.Transfer == nil, "complete on one connection", "BROKEN"),
		r.Bytes/1000)
	fmt.Fprintf(w, "tunnel SAs and policies: %s\n", outcome(len(r.Changed) == 0, "unchanged on both gateways",
		"CHANGED"))
	for _, m := range r.Missed() {
		fmt.Fprintln(w, "MISSED:", m)
	}
	return nil
}

func outcome(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}

func millis(d time.Duration) float64 { return float64(d) / 1e6 }
