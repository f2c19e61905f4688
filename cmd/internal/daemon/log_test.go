package daemon

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"sasyncd/sync/sadb"
)

func TestJournalFormat(t *testing.T) {
	var b bytes.Buffer
	log := NewLogger(&b, false, 0)
	log.Debug("not shown")
	log.Info("became master", "group", "carp1", "term", 7, "peer", "gw 2")
	log.Warn("two\nlines", "value", "a\nb\x1b[31m", "empty", "")
	log.With("peer", "10.0.0.2").WithGroup("g").Error("broken", "err", `say "no"`)
	log.Info("key", "key", sadb.NewSecret([]byte("very secret")), "lag", 1500*time.Millisecond)
	want := `<6>became master group=carp1 term=7 peer="gw 2"
<4>"two\nlines" value="a\nb\x1b[31m" empty=""
<3>broken peer=10.0.0.2 g.err="say \"no\""
<6>key key="<secret 11 bytes>" lag=1.5s
`
	if b.String() != want {
		t.Errorf("log is\n%s, want\n%s", b.String(), want)
	}
}

func TestVerbose(t *testing.T) {
	var b bytes.Buffer
	NewLogger(&b, false, 1).Debug("shown")
	if b.String() != "<7>shown\n" {
		t.Errorf("log is %q", b.String())
	}
}

// TestHandler runs the standard library's rules for handlers on lines of -d.
func TestHandler(t *testing.T) {
	var b bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		b.Reset()
		return NewLogger(&b, true, 1).Handler()
	}, func(t *testing.T) map[string]any {
		return parseLine(t, strings.TrimSuffix(b.String(), "\n"))
	})
}

// parseLine reads a line of -d back: [time] level message [key=value ...].
func parseLine(t *testing.T, line string) map[string]any {
	out := map[string]any{}
	if when, rest, ok := strings.Cut(line, " "); ok && strings.Count(when, ":") == 2 {
		out[slog.TimeKey], line = when, rest
	}
	level, rest, _ := strings.Cut(line, " ")
	out[slog.LevelKey] = level
	words := strings.Fields(rest)
	for i, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			if i == 0 || out[slog.MessageKey] == nil {
				out[slog.MessageKey] = w
			} else {
				out[slog.MessageKey] = out[slog.MessageKey].(string) + " " + w
			}
			continue
		}
		if u, err := strconv.Unquote(value); err == nil {
			value = u
		}
		m := out
		path := strings.Split(key, ".")
		for _, g := range path[:len(path)-1] {
			if m[g] == nil {
				m[g] = map[string]any{}
			}
			m = m[g].(map[string]any)
		}
		m[path[len(path)-1]] = value
	}
	return out
}
