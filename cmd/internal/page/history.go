package page

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Step is the time between two points of a plot, points how many are kept: five
// minutes.
const (
	Step   = 2 * time.Second
	points = 150
)

// Plot is a quantity over the last minutes, oldest first.
type Plot struct {
	Title  string    `json:"title"`
	Unit   string    `json:"unit"`
	Step   float64   `json:"step_seconds"`
	Values []float64 `json:"values"`
}

// History collects the points of plots. Safe for concurrent use.
type History struct {
	mu    sync.Mutex
	plots []Plot
}

// NewHistory returns a history of plots, each with its title and unit.
func NewHistory(titles ...[2]string) *History {
	h := &History{}
	for _, t := range titles {
		h.plots = append(h.plots, Plot{Title: t[0], Unit: t[1], Step: Step.Seconds(), Values: []float64{}})
	}
	return h
}

// Add appends one point to each plot.
func (h *History) Add(values ...float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, v := range values {
		h.plots[i].Values = keep(h.plots[i].Values, v, points)
	}
}

// Plots returns copies.
func (h *History) Plots() []Plot {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := slices.Clone(h.plots)
	for i := range out {
		out[i].Values = slices.Clone(out[i].Values)
	}
	return out
}

// Run takes a sample each Step until ctx ends. What cannot be sampled is left
// out.
func (h *History) Run(ctx context.Context, sample func(context.Context) ([]float64, error)) error {
	t := time.NewTicker(Step)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		at, cancel := context.WithTimeout(ctx, Step)
		v, err := sample(at)
		cancel()
		if err == nil {
			h.Add(v...)
		}
	}
}

// Rate turns readings of a counter into a rate per second.
type Rate struct {
	last float64
	at   time.Time
}

// Next returns the rate since the reading before, 0 for the first.
func (r *Rate) Next(now time.Time, count uint64) float64 {
	v := float64(count)
	rate := 0.0
	if dt := now.Sub(r.at).Seconds(); !r.at.IsZero() && dt > 0 && v >= r.last {
		rate = (v - r.last) / dt
	}
	r.last, r.at = v, now
	return rate
}
