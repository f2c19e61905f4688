package channel

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"sasyncd/sync/wire"
)

const (
	hexA = "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	hexB = "0xf0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
)

// derive makes keys of hexadecimal specs, which cost nothing.
func derive(t testing.TB, texts ...string) Keys {
	t.Helper()
	var specs []Spec
	for _, text := range texts {
		s, err := ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, s)
	}
	ks, err := Derive(specs...)
	if err != nil {
		t.Fatal(err)
	}
	return ks
}

func tcp(from string) DialFunc {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
}

// server is a listener on loopback whose connections arrive on a channel.
type server struct {
	*Listener
	addr  string
	conns chan *Conn
	log   *bytes.Buffer // read after stop only
	stop  func()
}

func serve(t testing.TB, cfg ListenConfig) *server {
	t.Helper()
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, nl, cfg)
}

func serveOn(t testing.TB, nl net.Listener, cfg ListenConfig) *server {
	t.Helper()
	s := &server{addr: nl.Addr().String(), conns: make(chan *Conn, 100), log: new(bytes.Buffer)}
	cfg.Log = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.Listener = NewListener(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(ctx, nl, func(c *Conn) { s.conns <- c }); err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	s.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(s.stop)
	return s
}

// accept returns the next connection that got through.
func (s *server) accept(t testing.TB) *Conn {
	t.Helper()
	select {
	case c := <-s.conns:
		t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(10 * time.Second):
		t.Fatal("no connection was accepted")
		return nil
	}
}

func (s *server) refusals() map[string]uint64 {
	m := map[string]uint64{}
	s.Counters.Refused(func(reason string, n uint64) {
		if n > 0 {
			m[reason] = n
		}
	})
	return m
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

func connect(t testing.TB, s *server, keys Keys) (near, far *Conn) {
	t.Helper()
	near, err := Dial(t.Context(), tcp("127.0.0.1"), s.addr, keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	return near, s.accept(t)
}

// exchange sends a message each way.
func exchange(t testing.TB, a, b *Conn) {
	t.Helper()
	for _, x := range [][2]*Conn{{a, b}, {b, a}} {
		if err := x[0].WriteMessage(&wire.Ping{Token: 7}); err != nil {
			t.Fatal(err)
		}
		m, err := x[1].ReadFrame()
		if p, ok := m.(*wire.Ping); err != nil || !ok || p.Token != 7 {
			t.Fatalf("received %v, %v", m, err)
		}
	}
}

// recorder keeps what a connection carried in both directions.
type recorder struct {
	net.Conn
	mu      sync.Mutex
	in, out bytes.Buffer
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.in.Write(b[:n])
	return n, err
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.out.Write(b)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

func (r *recorder) bytes() (in, out []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.in.Bytes()), bytes.Clone(r.out.Bytes())
}

// recording returns a dial function that records and where the newest
// recording is.
func recording(dial DialFunc) (DialFunc, func() *recorder) {
	var last *recorder
	return func(ctx context.Context, address string) (net.Conn, error) {
		c, err := dial(ctx, address)
		if err != nil {
			return nil, err
		}
		last = &recorder{Conn: c}
		return last, nil
	}, func() *recorder { return last }
}

// stranger connects without any key, sends what it likes and returns all that
// comes back until the end.
func stranger(t testing.TB, addr string, send func(net.Conn, []byte)) []byte {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	challenge := make([]byte, challengeLen)
	if _, err := io.ReadFull(c, challenge); err != nil {
		t.Fatalf("read challenge: %v", err)
	}
	send(c, challenge)
	rest, _ := io.ReadAll(c) // the end, or a reset when bytes were left unread
	return append(challenge, rest...)
}

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// pipeListener hands out ends of net.Pipe.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return nil }

func (l *pipeListener) dial(context.Context, string) (net.Conn, error) {
	near, far := net.Pipe()
	l.conns <- far
	return near, nil
}
