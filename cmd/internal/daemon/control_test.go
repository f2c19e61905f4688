package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sasyncd/kernel/trusted/trustedtest"
)

// serve runs a control server for the test and returns its socket.
func serve(t *testing.T, verbs map[string]Verb) (path string, s *ControlServer) {
	t.Helper()
	path = filepath.Join(trustedtest.Dir(t), "run", "control.sock")
	s = NewControlServer(path, NewLogger(io.Discard, false, 0), verbs)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("control socket: %v", err)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	<-s.Ready()
	return path, s
}

func dial(t *testing.T, path string) *ControlClient {
	t.Helper()
	c, err := DialControl(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestControl(t *testing.T) {
	type args struct{ Count int }
	path, _ := serve(t, map[string]Verb{
		"count": {Handle: func(_ context.Context, call *Call) error {
			a := args{Count: 1}
			if err := call.Decode(&a); err != nil {
				return err
			}
			for i := range a.Count {
				if err := call.Send(map[string]int{"n": i}); err != nil {
					return err
				}
			}
			return nil
		}},
		"fail": {Handle: func(context.Context, *Call) error { return errors.New("no peer") }},
		"who":  {Changes: true, Handle: func(_ context.Context, call *Call) error { return call.Send(call.Peer) }},
	})
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o660 {
		t.Fatalf("socket: mode %v, error %v", st.Mode(), err)
	}
	c := dial(t, path)
	var got []string
	collect := func(d json.RawMessage) error { got = append(got, string(d)); return nil }
	if err := c.Call(t.Context(), "count", args{3}, collect); err != nil {
		t.Fatal(err)
	}
	if s := strings.Join(got, " "); s != `{"n":0} {"n":1} {"n":2}` {
		t.Errorf("answer is %s", s)
	}
	var peer Peer
	if err := c.Get(t.Context(), "who", nil, &peer); err != nil || peer.PID != int32(os.Getpid()) ||
		peer.UID != uint32(os.Getuid()) {
		t.Errorf("the caller is %+v, error %v", peer, err)
	}
	for _, tt := range []struct {
		verb string
		args any
		code Code
		text string
	}{
		{"fail", nil, CodeFailed, "no peer"},
		{"nothing", nil, CodeUnknown, `no verb "nothing"`},
		{"count", map[string]int{"Cuont": 1}, CodeBad, "arguments of count"},
		{"count", "text", CodeBad, "arguments of count"},
	} {
		err := c.Call(t.Context(), tt.verb, tt.args, nil)
		var ce *CallError
		if !errors.As(err, &ce) || ce.Code != tt.code || !strings.Contains(ce.Message, tt.text) {
			t.Errorf("%s: error is %#v, want code %s and %q", tt.verb, err, tt.code, tt.text)
		}
	}
	if err := c.Get(t.Context(), "count", nil, &struct{}{}); err != nil {
		t.Errorf("the connection is of no use after refusals: %v", err)
	}
}

// TestControlUsers lets a caller of another user ask but not change.
func TestControlUsers(t *testing.T) {
	s := NewControlServer("/unused", NewLogger(io.Discard, false, 0), map[string]Verb{
		"show":     {Handle: func(context.Context, *Call) error { return nil }},
		"failover": {Changes: true, Handle: func(context.Context, *Call) error { return nil }},
	}, 4711)
	for _, tt := range []struct {
		verb string
		uid  uint32
		ok   bool
	}{
		{"show", 12345, true}, {"failover", 12345, false}, {"failover", 4711, true},
		{"failover", 0, true}, {"failover", uint32(os.Geteuid()), true},
	} {
		err := s.answer(t.Context(), []byte(`{"verb":"`+tt.verb+`"}`), Peer{UID: tt.uid}, nil)
		var ce *CallError
		if (err == nil) != tt.ok || !tt.ok && (!errors.As(err, &ce) || ce.Code != CodeDenied) {
			t.Errorf("%s by user %d: %v", tt.verb, tt.uid, err)
		}
	}
}

func TestControlHangUpCancels(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error, 1)
	path, _ := serve(t, map[string]Verb{"top": {Handle: func(ctx context.Context, call *Call) error {
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}}})
	c := dial(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- c.Call(ctx, "top", nil, nil) }()
	<-begun
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("call returned %v", err)
	}
	c.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the verb ended with %v", err)
	}
}

func TestControlBadInput(t *testing.T) {
	path, _ := serve(t, map[string]Verb{"show": {Handle: func(_ context.Context,
		call *Call) error {
		return call.Send("x")
	}}})
	for _, line := range []string{"garbage\n", "[1]\n", "{}\n", "\n"} {
		c := dial(t, path)
		if _, err := c.conn.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if !c.sc.Scan() || !strings.Contains(c.sc.Text(), `"error"`) {
			t.Errorf("%q is answered with %q", line, c.sc.Text())
		}
		if err := c.Get(t.Context(), "show", nil, new(string)); err != nil {
			t.Errorf("after %q the connection is of no use: %v", line, err)
		}
	}
	c := dial(t, path)
	go c.conn.Write([]byte(`{"verb":"` + strings.Repeat("x", 2*maxRequest) + "\"}\n"))
	c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if c.sc.Scan() || errors.Is(c.sc.Err(), os.ErrDeadlineExceeded) {
		t.Errorf("an endless request is answered with %q, error %v", c.sc.Text(), c.sc.Err())
	}
}

// TestControlTooManyClients: who is being answered keeps its place.
func TestControlTooManyClients(t *testing.T) {
	began := make(chan struct{}, maxClients)
	path, _ := serve(t, map[string]Verb{"wait": {Handle: func(ctx context.Context, _ *Call) error {
		began <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}}})
	for range maxClients {
		go dial(t, path).Get(t.Context(), "wait", nil, new(string))
	}
	for range maxClients {
		<-began
	}
	err := dial(t, path).Get(t.Context(), "wait", nil, new(string))
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("one client too many: %v", err)
	}
}

func TestControlSecondDaemon(t *testing.T) {
	path, _ := serve(t, nil)
	second := NewControlServer(path, NewLogger(io.Discard, false, 0), nil)
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another daemon is running") {
		t.Errorf("a second daemon ended with %v", err)
	}
	if err := dial(t, path).Call(t.Context(), "x", nil, nil); errors.Is(err, ErrUnreachable) {
		t.Errorf("the first lost its socket: %v", err)
	}
}

func TestControlStaleSocket(t *testing.T) {
	path := filepath.Join(trustedtest.Dir(t), "control.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close() // as after a kill
	if _, err := DialControl(t.Context(), path); !errors.Is(err, ErrUnreachable) {
		t.Errorf("dialling a dead socket: %v", err)
	}
	s := NewControlServer(path, NewLogger(io.Discard, false, 0),
		map[string]Verb{"x": {Handle: func(context.Context, *Call) error { return nil }}})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	<-s.Ready()
	if err := dial(t, path).Call(t.Context(), "x", nil, nil); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// A daemon that stands still lets clients connect. Who asks is told in the end,
// as of one that is not there.
func TestClientDoesNotWaitForEver(t *testing.T) {
	path := filepath.Join(trustedtest.Dir(t), "s")
	ln, err := net.Listen("unix", path) // and nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := DialControl(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Patience = 50 * time.Millisecond
	if err := c.Call(t.Context(), "status", nil, nil); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(),
		"has not answered for 50ms") {
		t.Errorf("error %v", err)
	}
	// An end from outside is still one.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c2, err := DialControl(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	c2.Patience = time.Hour
	if err := c2.Call(ctx, "status", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
