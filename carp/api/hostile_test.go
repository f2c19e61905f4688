package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"testing"
	"time"

	"sasyncd/kernel/trusted/trustedtest"
)

// dialRaw connects without a word.
func dialRaw(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// await waits for a condition, which must come to hold within 20 s. The sockets are real,
// so time is too: the sleep is the pause between two looks.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for began := time.Now(); !cond(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (s *Server) count(reason string) (n uint64) {
	s.Refused(func(r string, v uint64) {
		if r == reason {
			n = v
		}
	})
	return n
}

// TestSilentConnectionsKeepNobodyOut: whoever takes all places and says nothing,
// or half a line, neither keeps a client away nor costs one its connection.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	socket := filepath.Join(trustedtest.Dir(t), "s")
	h, _ := serve(t, socket)
	early := client(t, socket)
	next(t, early.Events())
	for i := range 5 * maxPeers {
		c := dialRaw(t, socket)
		if i%2 == 0 {
			_, _ = c.Write([]byte(`{"id":1,"verb":"stat`)) // it may be refused already
		}
	}
	late := client(t, socket)
	next(t, late.Events())
	for name, c := range map[string]*Client{"early": early, "late": late} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := c.Term(ctx, "ipsec", 1); err != nil {
			t.Errorf("the %s client: %v", name, err)
		}
		cancel()
	}
	if n := h.srv.count("busy"); n < 4*maxPeers {
		t.Errorf("%d connections were counted as too many", n)
	}
	h.srv.mu.Lock()
	defer h.srv.mu.Unlock()
	if len(h.srv.peers) > maxPeers {
		t.Errorf("%d clients are connected", len(h.srv.peers))
	}
}

// TestStrangersGiveWay: places are taken from the least worthy.
func TestStrangersGiveWay(t *testing.T) {
	s := NewServer(&groups{}, nil, nil)
	fill := func(silent, asked, trusted int) {
		clear(s.peers)
		s.next = 0
		for i := range maxPeers {
			a, b := net.Pipe()
			b.Close()
			s.next++
			p := newPeerConn(Peer{ID: s.next, Trusted: i >= maxPeers-trusted}, a)
			p.asked = i >= silent && asked > 0
			s.peers[s.next] = p
		}
	}
	for _, tt := range []struct {
		name                   string
		silent, asked, trusted int
		comer                  bool   // trusted
		victim                 uint64 // 0: the comer
	}{
		{"silent strangers, a stranger comes", maxPeers, 0, 0, false, 1},
		{"busy strangers, a stranger comes", 0, maxPeers, 0, false, 0},
		{"busy strangers, a daemon comes", 0, maxPeers, 0, true, 1},
		{"busy daemons, a daemon comes", 0, maxPeers, maxPeers, true, 0},
		{"silent daemons, a stranger comes", maxPeers, 0, maxPeers, false, 0},
		{"silent daemons, a daemon comes", maxPeers, 0, maxPeers, true, 1},
	} {
		fill(tt.silent, tt.asked, tt.trusted)
		made := s.makePlace(tt.comer)
		if made != (tt.victim != 0) || s.peers[tt.victim] != nil {
			t.Errorf("%s: place made %v, %d left", tt.name, made, len(s.peers))
		}
	}
}

// TestRefusalsAreCounted: each kind of abuse shows.
func TestRefusalsAreCounted(t *testing.T) {
	socket := filepath.Join(trustedtest.Dir(t), "s")
	h, _ := serve(t, socket)
	long := dialRaw(t, socket)
	go func() {
		b := make([]byte, 64<<10)
		for i := range b {
			b[i] = 'x'
		}
		for range 1600 { // 100 MB, if anybody read them
			if _, err := long.Write(b); err != nil {
				return
			}
		}
	}()
	for _, text := range []string{"nonsense\n", "[]\n", "{\"id\":\"x\"}\n", "\n"} {
		if _, err := dialRaw(t, socket).Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "five malformed lines to be counted", func() bool { return h.srv.count("malformed") == 5 })
	// A proper line, byte by byte.
	c := dialRaw(t, socket)
	b, err := line(Request{ID: 7, Verb: VerbResign, Group: "ipsec"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		if _, err := c.Write(b[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := bufio.NewReader(c).ReadBytes('\n')
	var m Message
	if err != nil || json.Unmarshal(answer, &m) != nil || m.ID != 7 || m.Error != "" {
		t.Errorf("a slow sender got %s, %v", answer, err)
	}
}
