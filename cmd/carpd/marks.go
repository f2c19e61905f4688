package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// marks keeps in a file which sequence numbers of signed advertisements were
// seen and sent, so that what was recorded before a restart is refused after
// it. A mark is a line of fixed length that is written over in place: what was
// written survives the death of the process, whenever that comes, and the kernel
// brings it to the disk in its own time. After a loss of power the last half
// minute may be missing. Not for concurrent use.
type marks struct {
	path   string
	log    *slog.Logger
	file   *os.File // nil: nothing is kept
	known  map[markName]uint64
	slots  map[markName]int64
	warned bool
}

type markName struct {
	router string
	sender netip.Addr // not valid: this node
}

const (
	// markLine holds a number, an address, and the name of an instance.
	markLine = 192
	// keptSenders of a router survive a restart, the latest ones: interfaces
	// that were replaced leave addresses behind.
	keptSenders = 16
	self        = "self"
)

// openMarks reads what an earlier process kept, and makes a new file of what
// of that counts.
func openMarks(stateDir string, log *slog.Logger) *marks {
	m := &marks{path: filepath.Join(stateDir, "marks"), log: log, known: map[markName]uint64{},
		slots: map[markName]int64{}}
	src, err := os.ReadFile(m.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.warn(err)
		return m
	}
	m.read(src)
	m.prune()
	if err := m.rewrite(); err != nil {
		m.warn(err)
	}
	return m
}

// read takes the lines that are whole; the last one written may not be.
func (m *marks) read(src []byte) {
	for i, line := range strings.Split(strings.TrimRight(string(src), "\n"), "\n") {
		number, rest, _ := strings.Cut(strings.TrimRight(line, " "), " ")
		sender, router, ok := strings.Cut(rest, " ")
		seq, err := strconv.ParseUint(number, 16, 64)
		name := markName{router: router}
		if err == nil && sender != self {
			name.sender, err = netip.ParseAddr(sender)
		}
		if err == nil {
			// One that cannot be written again would keep all others from being kept.
			_, err = name.line(seq)
		}
		if !ok || err != nil {
			if len(src) > 0 {
				m.log.Warn("remembered sequence number is lost", "file", m.path, "line", i+1)
			}
			continue
		}
		m.known[name] = max(m.known[name], seq)
	}
}

// prune forgets all but the latest senders of each router.
func (m *marks) prune() {
	byRouter := map[string][]markName{}
	for n := range m.known {
		if n.sender.IsValid() {
			byRouter[n.router] = append(byRouter[n.router], n)
		}
	}
	for _, names := range byRouter {
		slices.SortFunc(names, func(a, b markName) int { return compareMarks(m.known[b], m.known[a]) })
		for _, n := range names[min(len(names), keptSenders):] {
			delete(m.known, n)
		}
	}
}

// compareMarks orders as package auth does, over the wrap-around.
func compareMarks(a, b uint64) int { return cmp.Compare(int64(a-b), 0) }

func (m *marks) rewrite() error {
	var all bytes.Buffer
	for n, seq := range m.known {
		line, err := n.line(seq)
		if err != nil {
			return err
		}
		m.slots[n] = int64(all.Len())
		all.WriteString(line)
	}
	next := m.path + ".new"
	if err := os.WriteFile(next, all.Bytes(), 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := os.Rename(next, m.path); err != nil {
		f.Close()
		return err
	}
	m.file = f
	return nil
}

// line is one mark, always of the same length.
func (n markName) line(seq uint64) (string, error) {
	sender := self
	if n.sender.IsValid() {
		sender = n.sender.String()
	}
	s := fmt.Sprintf("%016x %s %s", seq, sender, n.router)
	if len(s) >= markLine || strings.Contains(n.router, "\n") {
		return "", fmt.Errorf("name %.20q... is too long", n.router)
	}
	return s + strings.Repeat(" ", markLine-1-len(s)) + "\n", nil
}

// warn tells once that marks do not survive a restart.
func (m *marks) warn(err error) {
	if !m.warned {
		m.log.Warn("sequence numbers are not kept: after a restart, advertisements that were recorded before it are "+
			"accepted until their sender is heard", "err", err)
	}
	m.warned = true
}

// Senders implements engine.Marks.
func (m *marks) Senders(router string) map[netip.Addr]uint64 {
	out := map[netip.Addr]uint64{}
	for n, seq := range m.known {
		if n.router == router {
			out[n.sender] = seq
		}
	}
	return out
}

// Set implements engine.Marks.
func (m *marks) Set(router string, sender netip.Addr, seq uint64) {
	if m.file == nil {
		return
	}
	n := markName{router, sender}
	line, err := n.line(seq)
	if err == nil {
		at, ok := m.slots[n]
		if !ok {
			at = int64(len(m.slots)) * markLine
			m.slots[n] = at
		}
		_, err = m.file.WriteAt([]byte(line), at)
	}
	if err != nil {
		m.warn(err)
	}
}

// Close ends the writing, and waits for the disk.
func (m *marks) Close() {
	if m.file != nil {
		if err := m.file.Sync(); err != nil {
			m.warn(err)
		}
		m.file.Close()
	}
}
