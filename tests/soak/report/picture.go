package main

import (
	"bytes"
	"fmt"
	"math"

	"sasyncd/tests/soak/soakdata"
)

// Sizes in pixels.
const (
	left, right  = 64, 16
	plot         = 880
	high, spaced = 84, 34
	strip        = 22
)

var colours = []string{"#1f6fb4", "#d9822b"}

// panel is one curve for each gateway.
type panel struct {
	title string
	value func(*soakdata.Sample) float64
}

var panels = []panel{
	{"lag of the standby, seconds, as the MASTER says", func(s *soakdata.Sample) float64 { return s.Lag }},
	{"SAs known to sasyncd", func(s *soakdata.Sample) float64 { return s.SAs }},
	{"resident memory of sasyncd, MB", func(s *soakdata.Sample) float64 { return s.Sasyncd.RSS / 1e6 }},
	{"goroutines of sasyncd", func(s *soakdata.Sample) float64 { return s.Sasyncd.Goroutines }},
	{"descriptors of sasyncd", func(s *soakdata.Sample) float64 { return s.Sasyncd.FDs }},
	{"resident memory of carpd, MB", func(s *soakdata.Sample) float64 { return s.Carpd.RSS / 1e6 }},
}

// picture draws all curves over the same axis of time, with the faults.
func picture(run *soakdata.Run) []byte {
	var b bytes.Buffer
	nodes := names(run)
	height := 60 + strip*len(nodes) + spaced + (len(panels)+1)*(high+spaced) + 20
	fmt.Fprintf(&b,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		left+plot+right, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	fmt.Fprintf(&b,
		`<text x="%d" y="22" font-size="15">%.0f minutes, %d rekeys, %d faults (grey); commit %s, seed %d</text>`+"\n",
		left, run.Took/60, run.Rekeys, len(run.Faults), run.Version, run.Seed)
	for i, n := range nodes {
		fmt.Fprintf(&b, `<text x="%d" y="42" fill="%s">%s</text>`+"\n", left+60*i, colours[i%2], n)
	}
	x := func(t float64) float64 { return left + t/run.Took*plot }
	top := 60
	bottom := height - 40
	fmt.Fprintf(&b, `<path stroke="#ccc" fill="none" d="`)
	for _, f := range run.Faults {
		fmt.Fprintf(&b, "M%.1f %dV%d", x(f.T), top, bottom)
	}
	b.WriteString("\"/>\n")
	// Who is MASTER.
	for i, n := range nodes {
		fmt.Fprintf(&b,
			`<text x="%d" y="%d" text-anchor="end">%s</text><path stroke="%s" stroke-width="12" fill="none" d="`,
			left-6, top+14, n, colours[i%2])
		for _, s := range run.Samples {
			if s.Node == n && s.Role == "MASTER" {
				fmt.Fprintf(&b, "M%.1f %dh%.1f", x(s.T), top+10, 3.5/run.Took*plot)
			}
		}
		b.WriteString("\"/>\n")
		top += strip
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">who is MASTER</text>`+"\n", left, top+12)
	top += spaced
	// Rekeys belong to both.
	times, made := pace(run)
	axes(&b, top, "rekeys a minute, over 30 s", largest(made))
	line(&b, "#333", top, largest(made), x, times, made)
	top += high + spaced
	for _, p := range panels {
		most := 0.0
		for i := range run.Samples {
			most = max(most, p.value(&run.Samples[i]))
		}
		axes(&b, top, p.title, most)
		for i, n := range nodes {
			var ts, vs []float64
			for j := range run.Samples {
				s := &run.Samples[j]
				if s.Node != n {
					continue
				}
				v := p.value(s)
				if s.Role == "" {
					v = math.NaN() // nobody answered
				}
				ts, vs = append(ts, s.T), append(vs, v)
			}
			line(&b, colours[i%2], top, most, x, ts, vs)
		}
		top += high + spaced
	}
	for minute := 0.0; minute*60 <= run.Took; minute += every(run.Took / 60) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(minute*60), height-22, minute)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">minutes</text>`+"\n</svg>\n", left+plot, height-6)
	return b.Bytes()
}

// every is the step of an axis that ends at most.
func every(most float64) float64 {
	for _, s := range []float64{0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000} {
		if most/s <= 8 {
			return s
		}
	}
	return most
}

func axes(b *bytes.Buffer, top int, title string, most float64) {
	fmt.Fprintf(b, `<text x="%d" y="%d">%s</text><path stroke="#000" fill="none" d="M%d %dv%dh%d"/>`, left+4, top-6,
		title, left, top, high, plot)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%.3g</text><text x="%d" y="%d" text-anchor="end">0</text>`+
		"\n", left-6, top+8, most, left-6, top+high)
}

// thin leaves the largest of every few points, so that a long run makes no large
// file.
func thin(ts, vs []float64) (_, _ []float64) {
	const most = 600
	n := (len(ts) + most - 1) / most
	if n < 2 {
		return ts, vs
	}
	var tt, vv []float64
	for i := 0; i < len(ts); i += n {
		v := math.NaN()
		for _, x := range vs[i:min(i+n, len(vs))] {
			if math.IsNaN(v) || x > v {
				v = x
			}
		}
		tt, vv = append(tt, ts[i]), append(vv, v)
	}
	return tt, vv
}

// line draws a curve; NaN interrupts it.
func line(b *bytes.Buffer, colour string, top int, most float64, x func(float64) float64, ts, vs []float64) {
	ts, vs = thin(ts, vs)
	fmt.Fprintf(b, `<path stroke="%s" fill="none" d="`, colour)
	verb := "M"
	for i, v := range vs {
		if math.IsNaN(v) {
			verb = "M"
			continue
		}
		y := float64(top + high)
		if most > 0 {
			y -= v / most * high
		}
		fmt.Fprintf(b, "%s%.1f %.1f", verb, x(ts[i]), y)
		verb = "L"
	}
	b.WriteString("\"/>\n")
}

// pace is how many rekeys a minute were made, over half a minute each.
func pace(run *soakdata.Run) (times, made []float64) {
	const window = 30
	var from *soakdata.Sample
	for i := range run.Samples {
		s := &run.Samples[i]
		if from == nil {
			from = s
		}
		if d := s.T - from.T; d >= window {
			times, made = append(times, s.T), append(made, float64(s.Rekeys-from.Rekeys)/d*60)
			from = s
		}
	}
	return times, made
}

func largest(vs []float64) (most float64) {
	for _, v := range vs {
		most = max(most, v)
	}
	return most
}

func names(run *soakdata.Run) (list []string) {
	seen := map[string]bool{}
	for _, s := range run.Samples {
		if !seen[s.Node] {
			seen[s.Node] = true
			list = append(list, s.Node)
		}
	}
	return list
}
