package scenario

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"sasyncd/tests/harness/lab"
)

// Teller is told what happens as it happens: when, who, what. It is called from
// several goroutines, one at a time.
type Teller func(at time.Time, who, what string)

// silent is the Teller of tests.
func silent(time.Time, string, string) {}

// followEvery is how often the daemons' logs are read.
const followEvery = 100 * time.Millisecond

// follower reads the logs of daemons as they grow.
type follower struct {
	tell Teller

	mu   sync.Mutex
	logs []*logTail
}

type logTail struct {
	who  string
	path string
	file *os.File
	rest []byte
}

// follow adds a daemon's log.
func (f *follower) follow(d *lab.Daemon) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs = append(f.logs, &logTail{who: strings.ReplaceAll(d.Name, "/", " "), path: d.Log})
}

// run reads until ctx ends, and then once more.
func (f *follower) run(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		f.readAll()
		select {
		case <-ctx.Done():
			f.readAll()
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, l := range f.logs {
				if l.file != nil {
					l.file.Close()
				}
			}
			return
		case <-tick.C:
		}
	}
}

func (f *follower) readAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []line
	for _, l := range f.logs {
		lines = append(lines, l.read()...)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		if !uneventful(l.text) {
			f.tell(l.at, l.who, l.text)
		}
	}
}

// uneventful says which lines of the daemons only accompany others.
func uneventful(text string) bool {
	for _, s := range []string{"ready", "not connected", "master heard", "sending a snapshot", "publishing"} {
		if text == s || strings.HasPrefix(text, s+" ") {
			return true
		}
	}
	return false
}

// line is a line of a log.
type line struct {
	at        time.Time
	who, text string
}

func (l *logTail) read() (lines []line) {
	if l.file == nil {
		var err error
		if l.file, err = os.Open(l.path); err != nil {
			return nil // not yet there
		}
	}
	var buf [4 << 10]byte
	for {
		n, err := l.file.Read(buf[:])
		l.rest = append(l.rest, buf[:n]...)
		if err != nil || n == 0 {
			break
		}
	}
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return lines
		}
		at, text := parseLine(string(l.rest[:i]), time.Now())
		lines = append(lines, line{at, l.who, text})
		l.rest = l.rest[i+1:]
	}
}

// parseLine separates the time of a daemon's line (15:04:05.000, of the day
// that brings it nearest to now) from the text. Lines of another form, a panic
// for instance, happened now.
func parseLine(line string, now time.Time) (time.Time, string) {
	clock, text, ok := strings.Cut(line, " ")
	t, err := time.ParseInLocation("15:04:05.000", clock, now.Location())
	if !ok || err != nil {
		return now, line
	}
	y, m, d := now.Date()
	at := time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())
	if at.Sub(now) > 12*time.Hour {
		at = at.AddDate(0, 0, -1)
	}
	text = strings.Join(strings.Fields(text), " ")
	return at, strings.TrimPrefix(text, "info ")
}
