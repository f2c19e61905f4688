package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"sasyncd/tests/soak/soakdata"
)

// page is the text beside the picture.
func page(run *soakdata.Run) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# Soak\n\nFor everybody who asks whether a pair recovers from every fault, again and again. `make soak` " +
		"(tests/soak) makes this\npage from a run; do not edit it.\n\n")
	p("A pair of gateways with carpd and sasyncd runs for %.0f minutes. %d tunnels are rekeyed at random, %d times a "+
		"minute,\n", run.Took/60, run.Tunnels, run.Rate)
	p("by a program in the place of the MASTER's IKE daemon. Traffic flows through two more, in IPv4 and IPv6, both " +
		"ways.\nAfter 5 to 25 s of quiet comes the next fault, drawn at random.\n\n")
	p("After each fault, a failover must work again (`sasyncctl check` on both, one MASTER, a complete standby, less " +
		"than 1 s\nof lag). Then, while the rekeys wait, the tables of both kernels must be equal. All times count from " +
		"the end of the\nfault: when the daemon was started again, the cable plugged in.\n\n")
	kernel := run.Kernel
	if run.Guest {
		kernel += " (user-mode-linux: both gateways, the network and all that measures share one processor)"
	}
	verdict := "passed"
	if run.Failed {
		verdict = "FAILED"
	}
	p("| | |\n|---|---|\n")
	p("| verdict | %s |\n", verdict)
	p("| run | %s, commit %s, seed %d, %s |\n", run.At.Format("2006-01-02 15:04"), run.Version, run.Seed, run.Go)
	p("| machine | %s, Linux %s |\n", run.Processor, kernel)
	p("| rekeys made | %d, %.0f a minute; while nobody is MASTER there is nobody to make them |\n", run.Rekeys,
		float64(run.Rekeys)/run.Took*60)
	failed := 0
	for _, f := range run.Faults {
		if f.Fit < 0 || f.Equal < 0 {
			failed++
		}
	}
	p("| faults | %d, not recovered from %d |\n", len(run.Faults), failed)
	p("| traffic | %d packets, %d lost, %d refused for their number, %d sequence numbers sent twice, %d in "+
		"plaintext |\n",
		run.Sent, run.Lost, run.Refused, run.Twice, run.Plaintext)
	p("| at the end | %d SAs, %d policies, %d differences between the gateways |\n\n", run.SAs, run.Policies,
		run.Differences)
	p("![curves of the run](soak.svg)\n\n")
	faults(&b, run)
	uses(&b, run)
	return b.Bytes()
}

// faults is a line for each kind.
func faults(b *bytes.Buffer, run *soakdata.Run) {
	kinds := map[string][]soakdata.Fault{}
	for _, f := range run.Faults {
		kinds[f.What] = append(kinds[f.What], f)
	}
	fmt.Fprintf(b, "## Faults\n\nSeconds. The lag is the largest that the MASTER owned to when asked, every 0.2 to 3 "+
		"s, until the tables were equal; a standby that is not connected has none.\n\n")
	fmt.Fprintf(b, "| fault | times | lasted, median | a failover works after, median | worst | equal after, worst | "+
		"lag, worst | packets refused |\n|---|---|---|---|---|---|---|---|\n")
	for _, what := range slices.Sorted(maps.Keys(kinds)) {
		list := kinds[what]
		column := func(f func(soakdata.Fault) float64) (vs []float64) {
			for _, x := range list {
				vs = append(vs, f(x))
			}
			slices.Sort(vs)
			return vs
		}
		lasted := column(func(f soakdata.Fault) float64 { return f.Lasted })
		fit := column(func(f soakdata.Fault) float64 { return f.Fit })
		equal := column(func(f soakdata.Fault) float64 { return f.Equal })
		lag := column(func(f soakdata.Fault) float64 { return f.Lag })
		refused := 0
		for _, f := range list {
			refused += f.Refused
		}
		last := len(list) - 1
		fmt.Fprintf(b, "| %s | %d | %.1f | %.1f | %.1f | %.1f | %.1f | %d |\n", what, len(list), lasted[len(list)/2],
			fit[len(list)/2], fit[last], equal[last], lag[last], refused)
	}
	b.WriteString("\n")
}

// uses compares what the daemons use at the begin and at the end.
func uses(b *bytes.Buffer, run *soakdata.Run) {
	fmt.Fprintf(b, "## What the daemons use\n\nMedians of the first and of the last quarter, over both gateways, and "+
		"the largest value of all. Processes are replaced by faults on the way.\n\n")
	fmt.Fprintf(b, "| | first quarter | last quarter | largest |\n|---|---|---|---|\n")
	for _, row := range []struct {
		what  string
		value func(*soakdata.Sample) float64
	}{
		{"sasyncd: resident memory, MB", func(s *soakdata.Sample) float64 { return s.Sasyncd.RSS / 1e6 }},
		{"sasyncd: goroutines", func(s *soakdata.Sample) float64 { return s.Sasyncd.Goroutines }},
		{"sasyncd: descriptors", func(s *soakdata.Sample) float64 { return s.Sasyncd.FDs }},
		{"carpd: resident memory, MB", func(s *soakdata.Sample) float64 { return s.Carpd.RSS / 1e6 }},
		{"carpd: goroutines", func(s *soakdata.Sample) float64 { return s.Carpd.Goroutines }},
		{"carpd: descriptors", func(s *soakdata.Sample) float64 { return s.Carpd.FDs }},
	} {
		var first, last []float64
		most := 0.0
		for i := range run.Samples {
			s := &run.Samples[i]
			v := row.value(s)
			most = max(most, v)
			switch {
			case v == 0: // nobody answered
			case s.T < run.Took/4:
				first = append(first, v)
			case s.T > run.Took*3/4:
				last = append(last, v)
			}
		}
		fmt.Fprintf(b, "| %s | %.1f | %.1f | %.1f |\n", row.what, median(first), median(last), most)
	}
}

func median(vs []float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	slices.Sort(vs)
	return vs[len(vs)/2]
}
