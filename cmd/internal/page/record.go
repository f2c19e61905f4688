package page

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// How much is remembered.
const (
	keepEvents    = 60
	keepFailovers = 20
)

// Event is a line of the log.
type Event struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"`
	Text  string    `json:"text"`
}

// Recorder remembers the last lines of a log, and those that tell of a change
// of role. Safe for concurrent use.
type Recorder struct {
	change string // the message of a change of role

	mu        sync.Mutex
	events    []Event // oldest first
	failovers []Failover
}

// NewRecorder returns a recorder for a daemon that logs changes of role with
// this message and the fields group, from, to and reason.
func NewRecorder(change string) *Recorder { return &Recorder{change: change} }

// Tee returns a handler that records what is at least Info and passes
// everything on to next.
func (r *Recorder) Tee(next slog.Handler) slog.Handler { return &tee{r: r, next: next} }

// Events returns what was recorded, newest first.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.events)
	slices.Reverse(out)
	return out
}

// Failovers returns the changes of role, newest first. Their gaps are unknown.
func (r *Recorder) Failovers() []Failover {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.failovers)
	slices.Reverse(out)
	return out
}

func (r *Recorder) record(rec slog.Record, with string, fields []slog.Attr) {
	var b strings.Builder
	b.WriteString(rec.Message + with)
	change := Failover{Time: rec.Time, Gap: -1}
	note := func(a slog.Attr) {
		v := a.Value.Resolve().String()
		switch a.Key {
		case "group":
			change.Group = v
		case "from":
			change.From = strings.ToUpper(v)
		case "to":
			change.To = strings.ToUpper(v)
		case "reason":
			change.Reason = v
		}
	}
	for _, a := range fields {
		note(a)
	}
	rec.Attrs(func(a slog.Attr) bool {
		note(a)
		b.WriteString(" " + a.Key + "=" + a.Value.Resolve().String())
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = keep(r.events, Event{rec.Time, strings.ToLower(rec.Level.String()), b.String()}, keepEvents)
	if rec.Message == r.change {
		r.failovers = keep(r.failovers, change, keepFailovers)
	}
}

// keep appends to a list of bounded length.
func keep[T any](list []T, x T, limit int) []T {
	if len(list) >= limit {
		list = slices.Delete(list, 0, len(list)-limit+1)
	}
	return append(list, x)
}

type tee struct {
	r      *Recorder
	next   slog.Handler
	with   string
	fields []slog.Attr
}

// Enabled implements slog.Handler.
func (t *tee) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || t.next.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (t *tee) Handle(ctx context.Context, rec slog.Record) error {
	if rec.Level >= slog.LevelInfo {
		t.r.record(rec, t.with, t.fields)
	}
	if !t.next.Enabled(ctx, rec.Level) {
		return nil
	}
	return t.next.Handle(ctx, rec)
}

// WithAttrs implements slog.Handler.
func (t *tee) WithAttrs(as []slog.Attr) slog.Handler {
	c := *t
	c.next, c.fields = t.next.WithAttrs(as), append(slices.Clone(t.fields), as...)
	for _, a := range as {
		c.with += " " + a.Key + "=" + a.Value.Resolve().String()
	}
	return &c
}

// WithGroup implements slog.Handler.
func (t *tee) WithGroup(name string) slog.Handler {
	c := *t
	c.next = t.next.WithGroup(name)
	return &c
}
