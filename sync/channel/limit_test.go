package channel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/channel/memnet"
	"sasyncd/sync/wire"
)

var (
	nodeA = netip.MustParseAddr("10.0.0.1")
	nodeB = netip.MustParseAddr("10.0.0.2")
	other = netip.MustParseAddr("10.0.0.66")
	port  = netip.AddrPortFrom(nodeB, 500)
)

// inMemory serves on a network in memory, inside a bubble.
func inMemory(t *testing.T, cfg ListenConfig) (*memnet.Network, *server) {
	t.Helper()
	n := memnet.New(time.Millisecond)
	l, err := n.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	return n, serveOn(t, l, cfg)
}

// hang connects and keeps silent.
func hang(t *testing.T, n *memnet.Network, from netip.Addr) net.Conn {
	t.Helper()
	c, err := n.Dialer(from)(t.Context(), port.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// What comes too late is cut off after 2 s sharp, however it trickles in.
func TestSlowStrangerIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, s := inMemory(t, ListenConfig{Keys: derive(t, hexA)})
		for name, every := range map[string]time.Duration{"silent": time.Hour, "trickling": 100 * time.Millisecond} {
			c := hang(t, n, other)
			start := time.Now()
			go func() {
				for i := 0; ; i++ {
					time.Sleep(every)
					if _, err := c.Write([]byte{byte(i)}); err != nil {
						return
					}
				}
			}()
			got, err := io.ReadAll(c)
			c.Close()
			if len(got) != challengeLen || err != nil {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			if d := time.Since(start); d < prefaceTimeout || d > prefaceTimeout+10*time.Millisecond {
				t.Errorf("%s: cut off after %v", name, d)
			}
		}
		if got := s.refusals()["late"]; got != 2 {
			t.Errorf("late: %d", got)
		}
		time.Sleep(time.Hour) // until the writers have noticed
	})
}

func TestSourcesThatMayNotConnectSeeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := derive(t, hexA)
		n, s := inMemory(t, ListenConfig{Keys: keys, Allow: []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}})
		if got, _ := io.ReadAll(hang(t, n, other)); len(got) != 0 {
			t.Errorf("%d bytes came", len(got))
		}
		if _, err := Dial(t.Context(), n.Dialer(other), port.String(), keys); err == nil {
			t.Error("connected with the key from a foreign address")
		}
		if got := s.refusals()["source"]; got != 2 {
			t.Errorf("refused %v", s.refusals())
		}
		c, err := Dial(t.Context(), n.Dialer(nodeA), port.String(), keys)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		exchange(t, c, s.accept(t))
		s.SetAllow(nil)
		c, err = Dial(t.Context(), n.Dialer(other), port.String(), keys)
		if err != nil {
			t.Fatalf("after a change of the list: %v", err)
		}
		c.Close()
	})
}

// A place is taken until the first frame was read, not longer.
func TestPlacesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := derive(t, hexA)
		n, s := inMemory(t, ListenConfig{Keys: keys, MaxPendingPerAddr: 1, Rate: 1000})
		dial := func() (*Conn, error) { return Dial(t.Context(), n.Dialer(nodeA), port.String(), keys) }
		near, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		far := s.accept(t)
		if _, err := dial(); err == nil {
			t.Error("a second connection was let in before the first sent a frame")
		}
		exchange(t, near, far)
		again, err := dial()
		if err != nil {
			t.Fatalf("after the first frame: %v", err)
		}
		s.accept(t).Close()
		again.Close()
		if again, err = dial(); err != nil {
			t.Fatalf("after the second was closed: %v", err)
		}
		defer again.Close()
		// No frame: the reader is told after 5 s, and the place is free.
		start := time.Now()
		silent := s.accept(t)
		if _, err := silent.ReadFrame(); err == nil || time.Since(start) > helloTimeout+10*time.Millisecond {
			t.Errorf("silence was noticed after %v: %v", time.Since(start), err)
		}
		silent.Close()
		if last, err := dial(); err != nil {
			t.Errorf("after the silent one: %v", err)
		} else {
			last.Close()
		}
		if r := s.refusals(); r["busy"] != 1 || r["hello"] != 2 || s.Counters.Up.Load() != 1 {
			t.Errorf("refused %v, up %d", r, s.Counters.Up.Load())
		}
	})
}

func TestRateOfOneAddressIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, s := inMemory(t, ListenConfig{Keys: derive(t, hexA), Rate: 10})
		connect := func() {
			c := hang(t, n, other)
			c.Write(make([]byte, answerLen))
			io.ReadAll(c)
			c.Close()
		}
		for range 100 { // about 4 ms each
			connect()
		}
		if r := s.refusals(); r["key"] < 20 || r["key"] > 26 || r["key"]+r["rate"] != 100 {
			t.Errorf("refused %v, want 20 and 10 a second judged", r)
		}
		before := s.refusals()["key"]
		time.Sleep(time.Second)
		for range 20 {
			connect()
		}
		if judged := s.refusals()["key"] - before; judged < 10 || judged > 11 {
			t.Errorf("%d judged after a second of rest", judged)
		}
		// Another address is not affected.
		c := hang(t, n, nodeA)
		if _, err := io.ReadFull(c, make([]byte, challengeLen)); err != nil {
			t.Errorf("another address: %v", err)
		}
	})
}

// Half-open connections by the hundred, on real sockets: never more than 4 of
// one address wait, and a node from another address is served meanwhile.
func TestFloodOfHalfOpenConnections(t *testing.T) {
	keys := derive(t, hexA)
	flooder, friend := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	s := serve(t, ListenConfig{Keys: keys, Allow: []netip.Addr{flooder, friend}})
	var open []net.Conn
	for range 300 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
		if s.gate.mu.Lock(); s.gate.pending > 4 {
			t.Fatalf("%d connections wait", s.gate.pending)
		}
		s.gate.mu.Unlock()
	}
	near, err := Dial(t.Context(), tcp(friend.String()), s.addr, keys)
	if err != nil {
		t.Fatalf("a node cannot connect during the flood: %v", err)
	}
	defer near.Close()
	exchange(t, near, s.accept(t))
	for i, c := range open {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := io.Copy(io.Discard, c); n > challengeLen || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d: %d bytes, %v", i, n, err)
		}
	}
	until(t, "all to be judged", func() bool {
		r := s.refusals()
		return r["busy"]+r["rate"]+r["late"]+r["gone"] == 300 && r["late"] <= 24
	})
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	if s.gate.pending != 0 {
		t.Errorf("%d places were not given back", s.gate.pending)
	}
}

// Where anybody may try, strangers from many addresses share the places, and
// the table of addresses stays small.
func TestManySources(t *testing.T) {
	g := newGate(ListenConfig{})
	g.strangers.Store(true)
	now := time.Now()
	var held []func()
	for i := range 5000 {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		release, why := g.enter(a, now)
		if (why == admitted) != (i < 16) {
			t.Fatalf("source %d: %v", i, why)
		}
		if release != nil {
			held = append(held, release)
		}
	}
	if len(g.sources) > maxSources {
		t.Errorf("%d sources are remembered", len(g.sources))
	}
	for _, release := range held {
		release()
		release() // must not count twice
	}
	if g.pending != 0 {
		t.Errorf("%d wait", g.pending)
	}
	// One host with many addresses of its /64 counts as one.
	for i := range 5 {
		a := netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))
		if _, why := g.enter(a, now.Add(time.Minute)); (why == admitted) != (i < 4) {
			t.Errorf("address %d of a /64: %v", i, why)
		}
	}
}

func TestSlowReaderEndsTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := derive(t, hexA)
		n, s := inMemory(t, ListenConfig{Keys: keys})
		near, err := Dial(t.Context(), n.Dialer(nodeA), port.String(), keys)
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		s.accept(t)
		frame, err := wire.AppendFrame(nil, &wire.Digest{Buckets: make([]uint64, 16384)})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for err == nil {
			err = near.WriteFrames(frame)
		}
		if d := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || d < WriteTimeout || d > WriteTimeout+
			time.Second {
			t.Errorf("%v after %v", err, d)
		}
		if near.WriteFrames(frame) == nil {
			t.Error("a broken connection takes frames")
		}
	})
}

// Small frames are joined, large ones cut, and all arrive in order.
func TestFramesFillRecords(t *testing.T) {
	keys := derive(t, hexA)
	s := serve(t, ListenConfig{Keys: keys})
	near, far := connect(t, s, keys)
	var frames [][]byte
	size := 0
	for i := range 3000 {
		var m wire.Message = &wire.Ping{Token: uint64(i)}
		if i%500 == 250 {
			m = &wire.Digest{Seq: uint64(i), Buckets: make([]uint64, 30000)}
		}
		f, err := wire.AppendFrame(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		frames, size = append(frames, f), size+len(f)
	}
	done := make(chan error, 1)
	go func() { done <- near.WriteFrames(frames...) }()
	for i := range 3000 {
		m, err := far.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *wire.Ping:
			if m.Token != uint64(i) {
				t.Fatalf("message %d has token %d", i, m.Token)
			}
		case *wire.Digest:
			if m.Seq != uint64(i) {
				t.Fatalf("message %d has seq %d", i, m.Seq)
			}
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, most := near.Records(), uint64(size/recordSize+16); got > most {
		t.Errorf("%d records for %d bytes, want at most %d", got, size, most)
	}
}

// Any address and any connection of the standard library will do.
func TestPipeInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := derive(t, hexA)
		l := NewListener(ListenConfig{Keys: keys, Log: discard()})
		nl := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		got := make(chan *Conn, 1)
		go l.Serve(t.Context(), nl, func(c *Conn) { got <- c })
		near, err := Dial(t.Context(), nl.dial, "pipe", keys)
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		far := <-got
		defer far.Close()
		go near.WriteMessage(&wire.Ping{Token: 1})
		if m, err := far.ReadFrame(); err != nil {
			t.Errorf("%v, %v", m, err)
		}
	})
}
