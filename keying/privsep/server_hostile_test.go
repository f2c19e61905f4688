package privsep

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/keying"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestHostileClientIsCutOff: who sends what the client never would is no client.
func TestHostileClientIsCutOff(t *testing.T) {
	packet := func(r Request) []byte {
		b, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	kill := packet(Request{ID: 1, Op: OpKill, Daemon: keying.StrongSwan})
	for name, send := range map[string][][]byte{
		"unknown verb":    {{0, 0, 0, 1, 99}},
		"verb 0":          {{0, 0, 0, 1, 0}},
		"unknown daemon":  {{0, 0, 0, 1, byte(OpKill), 99}},
		"cut short":       {kill[:5]},
		"longer":          {append(slices.Clone(kill), "-9 1"...)},
		"oversized":       {make([]byte, MaxRequest+1)},
		"twice under way": {kill, kill},
		"garbage":         {[]byte("GET / HTTP/1.1\r\n\r\n")},
	} {
		r := &recorder{hold: make(chan struct{})}
		conn, ended := serve(t, fakeSource{}, r)
		for _, b := range send {
			if _, err := conn.Write(b); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		select {
		case err := <-ended:
			if !errors.Is(err, ErrRefused) {
				t.Errorf("%s: ended with %v", name, err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: still served", name)
		}
		if did := r.deeds(); slices.Contains(did, "kill strongswan") {
			t.Errorf("%s: did %q", name, did)
		}
	}
	// A descriptor of its own, which root would then hold.
	conn, ended := serve(t, fakeSource{}, &recorder{})
	if _, _, err := conn.WriteMsgUnix(kill, unix.UnixRights(0), nil); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrRefused) {
		t.Errorf("a descriptor: ended with %v", err)
	}
}

// TestFlood: what is under way is bounded, and ends with the connection.
func TestFlood(t *testing.T) {
	r := &recorder{hold: make(chan struct{})}
	conn, ended := serve(t, fakeSource{}, r)
	for id := range uint32(100 * maxUnderWay) {
		req := Request{ID: id, Op: OpKill, Daemon: keying.StrongSwan}
		b, err := req.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(b); err != nil {
			break // cut off
		}
	}
	select {
	case err := <-ended:
		if !errors.Is(err, ErrRefused) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("still served")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.most > maxUnderWay || r.under != 0 {
		t.Errorf("%d requests at once, at most %d may be; %d outlive the connection", r.most, maxUnderWay, r.under)
	}
}

// TestCancel: a request ends when nobody waits for it any more.
func TestCancel(t *testing.T) {
	r := &recorder{hold: make(chan struct{})}
	c := newClient(t, fakeSource{}, r)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Kill(ctx, keying.StrongSwan); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("kill: %v", err)
	}
	for deadline := time.Now().Add(30 * time.Second); !slices.Contains(r.deeds(), "gave up"); {
		if time.Now().After(deadline) {
			t.Fatal("the request goes on")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestEitherEndEndsTheOther: the client notices the server's death, in calls
// too, and a lazy one connects anew.
func TestEitherEndEndsTheOther(t *testing.T) {
	r := &recorder{hold: make(chan struct{})}
	conn, _ := serve(t, fakeSource{}, r)
	c := NewClient(conn)
	failed := make(chan error, 1)
	go func() { failed <- c.Kill(context.Background(), keying.StrongSwan) }()
	c.Close()
	if err := <-failed; err == nil {
		t.Error("a call outlives the connection")
	}
	<-c.Ended()
	if err := c.Kill(within(t), keying.StrongSwan); err == nil {
		t.Error("a call works without a connection")
	}
	var n int
	lazy := NewLazyClient(func() (*net.UnixConn, error) {
		n++
		conn, _ := serve(t, fakeSource{}, &recorder{})
		return conn, nil
	})
	for range 2 {
		if err := lazy.Kill(within(t), keying.StrongSwan); err != nil {
			t.Error(err)
		}
		lazy.Close()
		<-lazy.Ended()
	}
	if n != 2 {
		t.Errorf("connected %d times, want 2", n)
	}
}
