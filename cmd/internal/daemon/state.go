package daemon

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// State is what a daemon remembers between runs: who it is and the highest
// terms it has seen. It lives in a directory that only the daemon's user reads.
// If that cannot be written, State warns once and goes on in memory: a gateway
// with a broken disk still carries traffic. Safe for concurrent use.
type State struct {
	dir    string
	daemon string
	log    *slog.Logger

	trouble atomic.Pointer[string] // see Trouble

	mu     sync.Mutex
	terms  map[string]uint64
	warned bool
}

// OpenState opens the state of a daemon in dir, which it makes if it does not exist. Each
// daemon has files of its own there, so that two may have one directory; the name of
// the daemon begins those that both have. What cannot be understood there, as after a
// crash in the middle of a write, is reported and forgotten: the peers remember the same
// terms.
func OpenState(dir, daemon string, log *slog.Logger) *State {
	s := &State{dir: dir, daemon: daemon, log: log, terms: map[string]uint64{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.warn(fmt.Errorf("make state directory: %w", err))
	}
	file := s.path(s.termsFile())
	src, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		file = s.path("terms") // of a release before
		src, err = os.ReadFile(file)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s
	case err != nil:
		s.warn(fmt.Errorf("read terms: %w", err))
		return s
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(src), "\n"), "\n") {
		number, name, _ := strings.Cut(line, " ")
		term, err := strconv.ParseUint(number, 10, 64)
		group, quoteErr := strconv.Unquote(name)
		if err != nil || quoteErr != nil || term > maxTerm {
			log.Warn("remembered term is lost, or higher than counting leads", "file", file, "line", i+1)
			continue
		}
		s.terms[group] = max(s.terms[group], term)
	}
	return s
}

// maxTerm is beyond what any group reaches, and half of the highest that is sent
// (wire.MaxTerm): more is damage, and leaves no room for further masterships.
const maxTerm = 1 << 61

// termsFile and startsFile are the names of files that each daemon has.
func (s *State) termsFile() string  { return s.daemon + ".terms" }
func (s *State) startsFile() string { return s.daemon + ".starts" }

func (s *State) path(name string) string { return filepath.Join(s.dir, name) }

// warn logs the first failure to write.
func (s *State) warn(err error) {
	if !s.warned {
		s.log.Warn("state is not kept over a restart", "err", err)
	}
	s.warned = true
}

// NodeID returns the id of this node, random at its first start.
func (s *State) NodeID() (id [16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.path("node-id")
	src, err := os.ReadFile(path)
	switch {
	case err == nil:
		b, err := hex.DecodeString(strings.TrimSpace(string(src)))
		if err == nil && len(b) == len(id) && [16]byte(b) != id {
			return [16]byte(b)
		}
		s.log.Warn("node id is lost, this is a new node", "file", path)
	case !errors.Is(err, fs.ErrNotExist):
		s.warn(fmt.Errorf("read node id: %w", err))
	}
	rand.Read(id[:]) // never fails (crypto/rand)
	if err := ReplaceFile(path, []byte(hex.EncodeToString(id[:])+"\n"), true); err != nil {
		s.warn(err)
	}
	return id
}

// Term returns the highest term that was ever set for group, 0 if none.
func (s *State) Term(group string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.terms[group]
}

// Start counts this start of the daemon and returns how often it was started
// since the state directory was made, this time included.
func (s *State) Start() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	src, err := os.ReadFile(s.path(s.startsFile()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.warn(fmt.Errorf("read number of starts: %w", err))
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(src)), 10, 63)
	if err != nil {
		n = 0 // a number for operators only: not worth a complaint
	}
	n++
	if err := ReplaceFile(s.path(s.startsFile()), fmt.Appendf(nil, "%d\n", n), false); err != nil {
		s.warn(err)
	}
	return n
}

// SetTerm remembers term for group unless a higher one is known. It does not
// wait for the disk: it is called on the way to a takeover, and the peers
// remember the same terms.
func (s *State) SetTerm(group string, term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if term <= s.terms[group] {
		return
	}
	s.terms[group] = term
	names := make([]string, 0, len(s.terms))
	for n := range s.terms {
		names = append(names, n)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "%d %q\n", s.terms[n], n)
	}
	if err := ReplaceFile(s.path(s.termsFile()), []byte(b.String()), false); err != nil {
		s.warn(err)
	}
}

// ReplaceFile writes a file so that a reader finds the old or the new content;
// with sync it waits until the disk has it. The daemon is the only writer.
func ReplaceFile(path string, content []byte, sync bool) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(content)
	if err == nil && sync {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
