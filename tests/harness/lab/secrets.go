package lab

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// What daemons print is searched for the keys that the test gave them or their
// kernel: none may be there, not even a part, in any notation.

// window is how many bytes of a key in a row are a leak.
const window = 8

// manyKeys bounds the work of tests with thousands of SAs, whose keys are all
// handled by the same code.
const manyKeys = 500

// secrets are the keys of a network. Safe for concurrent use.
type secrets struct {
	mu   sync.Mutex
	keys map[string]bool
	part map[[window]byte]string // of a key: where it is from
}

// Notations in which keys are given.
var (
	hexKey  = regexp.MustCompile(`0x([0-9a-fA-F]{32,})`)
	textKey = regexp.MustCompile(`(?:pass|sharedkey|key \d+)\s+"([^"]{8,})"`)
)

// learn remembers the keys in a configuration or a command.
func (s *secrets) learn(where, text string) {
	for _, m := range hexKey.FindAllStringSubmatch(text, -1) {
		if b, err := hex.DecodeString(m[1][:len(m[1])&^1]); err == nil {
			s.learnKey(where, b)
		}
	}
	for _, m := range textKey.FindAllStringSubmatch(text, -1) {
		s.learnKey(where, []byte(m[1]))
	}
}

// learnKey remembers a key, which several nodes may have. Parts that are too
// regular to be found by anything but chance are left out.
func (s *secrets) learnKey(where string, key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[string(key)] || len(s.keys) >= manyKeys {
		return
	}
	if s.part == nil {
		s.keys, s.part = make(map[string]bool), make(map[[window]byte]string)
	}
	s.keys[string(key)] = true
	for i := 0; i+window <= len(key); i++ {
		p := [window]byte(key[i:])
		sorted := slices.Sorted(slices.Values(p[:]))
		if len(slices.Compact(sorted)) > window/2 {
			s.part[p] = where
		}
	}
}

// leak looks for a part of a key in a text as it is, in hexadecimal, base64, or
// decimal as Go prints bytes, and returns what it found, "" for nothing.
func (s *secrets) leak(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.part) == 0 {
		return ""
	}
	found := ""
	look := func(how string, b []byte) {
		for i := 0; found == "" && i+window <= len(b); i++ {
			if where, ok := s.part[[window]byte(b[i:])]; ok {
				found = fmt.Sprintf("%d bytes of the key of %s, %s", window, where, how)
			}
		}
	}
	look("as they are", []byte(text))
	// Also "12:34:" and "12 34 ", as some programs print keys.
	for _, run := range regexp.MustCompile(`(?:[0-9a-fA-F]{2}[: ]?){8,}[0-9a-fA-F]?`).FindAllString(text, -1) {
		run = strings.NewReplacer(":", "", " ", "").Replace(run)
		for shift := range 2 {
			digits := run[shift:]
			if b, err := hex.DecodeString(digits[:len(digits)&^1]); err == nil {
				look("in hexadecimal", b)
			}
		}
	}
	for _, run := range regexp.MustCompile(`[A-Za-z0-9+/_-]{11,}`).FindAllString(text, -1) {
		run = strings.NewReplacer("-", "+", "_", "/").Replace(run)
		for shift := range 4 {
			quads := run[min(shift, len(run)):]
			if b, err := base64.RawStdEncoding.DecodeString(quads[:len(quads)&^3]); err == nil {
				look("in base64", b)
			}
		}
	}
	for _, run := range regexp.MustCompile(`(?:\d{1,3}[ ,]+){7,}\d{1,3}`).FindAllString(text, -1) {
		var b []byte
		for _, f := range strings.FieldsFunc(run, func(r rune) bool { return r == ' ' || r == ',' }) {
			n, err := strconv.ParseUint(f, 10, 8)
			if err != nil {
				n = 0
			}
			b = append(b, byte(n))
		}
		look("in decimal", b)
	}
	return found
}

// Leak looks for a part of any key that this network's daemons were given in a
// text, and returns what it found, "" for nothing.
func (n *Net) Leak(text string) string { return n.secrets.leak(text) }

// LearnKeys remembers the keys of all SAs that the node's kernel holds now.
func (nd *Node) LearnKeys() { nd.learnKernel() }

// learnKernel remembers the keys of the SAs that the node's kernel holds now.
func (nd *Node) learnKernel() {
	list, err := nd.nl.XfrmStateList(0)
	if err != nil {
		return // a kernel without IPsec has none
	}
	for i := range list {
		sa := &list[i]
		where := fmt.Sprintf("SA %#x", uint32(sa.Spi))
		if sa.Auth != nil {
			nd.net.secrets.learnKey(where, sa.Auth.Key)
		}
		if sa.Crypt != nil {
			nd.net.secrets.learnKey(where, sa.Crypt.Key)
		}
		if sa.Aead != nil {
			nd.net.secrets.learnKey(where, sa.Aead.Key)
		}
	}
}

// searched fails the test if the daemon has printed a key.
func (d *Daemon) searched(nd *Node) {
	d.t.Helper()
	if what := nd.net.secrets.leak(d.Output()); what != "" {
		d.t.Errorf("%s has printed %s (log: %s)", d.Name, what, d.Log)
	}
}
