package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// NewLogger returns the logger of a daemon. With debug (-d) a line is
//
//	15:04:05.000 info message key=value
//
// for a person; without it, for the journal, which knows the time itself and
// takes the priority from the prefix (sd-daemon(3)):
//
//	<6>message key=value
//
// Without -v it logs changes of state and worse, with one -v also what leads to
// them. A message and its values never span lines, whatever they contain.
func NewLogger(w io.Writer, debug bool, verbose int) *slog.Logger {
	level := slog.LevelInfo
	if verbose > 0 {
		level = slog.LevelDebug
	}
	return slog.New(&handler{out: &output{w: w}, debug: debug, level: level})
}

// output is shared by all handlers that derive from one logger.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

type handler struct {
	out    *output
	debug  bool
	level  slog.Level
	attrs  string // formatted, each with a leading blank
	prefix string // of group names, each with a trailing dot
}

var _ slog.Handler = (*handler)(nil)

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	if h.debug {
		if !r.Time.IsZero() {
			b.WriteString(r.Time.Format("15:04:05.000 "))
		}
		fmt.Fprintf(&b, "%-5s ", strings.ToLower(r.Level.String()))
	} else {
		fmt.Fprintf(&b, "<%d>", priority(r.Level))
	}
	b.WriteString(oneLine(r.Message))
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		appendAttr(&b, h.prefix, a)
		return true
	})
	b.WriteByte('\n')
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := io.WriteString(h.out.w, b.String())
	return err
}

func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, a := range as {
		appendAttr(&b, h.prefix, a)
	}
	c := *h
	c.attrs = b.String()
	return &c
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix += name + "."
	return &c
}

// priority maps a level to syslog(3).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

func appendAttr(b *strings.Builder, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, g := range v.Group() {
			appendAttr(b, prefix, g)
		}
		return
	}
	b.WriteByte(' ')
	b.WriteString(word(prefix + a.Key))
	b.WriteByte('=')
	if v.Kind() == slog.KindTime {
		b.WriteString(v.Time().Format(time.RFC3339Nano))
		return
	}
	b.WriteString(word(v.String()))
}

// word quotes s if it would not be read back as one word.
func word(s string) string {
	if s == "" || strings.ContainsAny(s, " \"=") || s != oneLine(s) {
		return strconv.Quote(s)
	}
	return s
}

// oneLine quotes s if it has anything that a terminal or the journal would
// treat as more than text.
func oneLine(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	return strconv.Quote(s)
}
