package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sasyncd/kernel/trusted/trustedtest"
)

// groups is a handler that knows two groups and remembers requests.
type groups struct {
	srv *Server

	mu     sync.Mutex
	got    []Request
	gone   int
	subbed []uint64
}

func (g *groups) Request(p Peer, r Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got = append(g.got, r)
	switch r.Verb {
	case VerbSubscribe:
		g.subbed = append(g.subbed, p.ID)
		for _, name := range []string{"ipsec", "other"} {
			st := &GroupState{Group: name, State: StateBackup, Instances: []InstanceState{{Name: "in-" + name}}}
			g.srv.Send(p.ID, Message{Event: EventState, Group: name, State: st, Snapshot: true})
		}
	case VerbResign:
		if r.Group != "ipsec" {
			g.srv.Send(p.ID, Message{ID: r.ID, Error: "no such group: " + r.Group})
			return
		}
	}
	g.srv.Send(p.ID, Message{ID: r.ID})
}

func (g *groups) Gone(Peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone++
}

func (g *groups) requests() []Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Request(nil), g.got...)
}

// serve starts a server and returns its socket and a function to end it.
func serve(t *testing.T, socket string) (*groups, func()) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	h := &groups{}
	h.srv = NewServer(h, nil, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.srv.Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return h, stop
}

func next(t *testing.T, ch <-chan Message) Message {
	t.Helper()
	select {
	case m, ok := <-ch:
		if !ok {
			t.Fatal("events ended")
		}
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
	}
	return Message{}
}

func client(t *testing.T, socket string) *Client {
	t.Helper()
	c := NewClient(ClientConfig{Socket: socket, Name: "sasyncd", Prepare: true, Instances: []string{"in-ipsec"},
		Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = c.Run(ctx); close(done) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return c
}

func TestClientFollowsOverRestart(t *testing.T) {
	socket := filepath.Join(trustedtest.Dir(t), "s")
	h, stop := serve(t, socket)
	c := client(t, socket)
	for round := range 2 {
		if m := next(t, c.Events()); m.Event != EventConnected {
			t.Fatalf("round %d: %+v", round, m)
		}
		one, two := next(t, c.Events()), next(t, c.Events())
		if one.Seq != 1 || two.Seq != 2 || !one.Snapshot || one.State == nil {
			t.Fatalf("snapshot %+v %+v", one, two)
		}
		if !one.State.HasInstance("in-ipsec") || one.State.HasInstance("in-other") {
			t.Errorf("instance not found in %+v", one.State)
		}
		if round == 1 {
			break
		}
		h.srv.Send(h.subbed[0], Message{Event: EventPrepare, Group: "ipsec", To: StateMaster, Term: 7, ForMS: 2000})
		m := next(t, c.Events())
		if m.Event != EventPrepare || m.Seq != 3 || m.Term != 7 || m.For() != 2*time.Second {
			t.Fatalf("prepare %+v", m)
		}
		if err := c.Prepared(t.Context(), m.Group, m.Term); err != nil {
			t.Fatal(err)
		}
		got := h.requests()
		if got[0].Verb != VerbHello || got[0].Name != "sasyncd" || !got[0].Prepare ||
			got[1].Instances[0] != "in-ipsec" {
			t.Errorf("introduction %+v", got[:2])
		}
		if last := got[len(got)-1]; last.Verb != VerbPrepared || last.Term != 7 || last.Group != "ipsec" {
			t.Errorf("answer %+v", last)
		}
		stop()
		if m := next(t, c.Events()); m.Event != EventDisconnected {
			t.Fatalf("%+v", m)
		}
		if err := c.Term(t.Context(), "ipsec", 1); !errors.Is(err, ErrClosed) {
			t.Errorf("call without connection: %v", err)
		}
		_ = os.Remove(socket)
		h, stop = serve(t, socket)
	}
}

func TestRefusal(t *testing.T) {
	socket := filepath.Join(trustedtest.Dir(t), "s")
	serve(t, socket)
	conn, err := Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Call(t.Context(), Request{Verb: VerbResign, Group: "nosuch"})
	var no *RequestError
	if !errors.As(err, &no) || no.Text != "no such group: nosuch" {
		t.Errorf("got %v", err)
	}
}

// Only root and listed users change things, but everybody may look.
func TestPermission(t *testing.T) {
	h := &groups{}
	h.srv = NewServer(h, []uint32{77}, slog.New(slog.DiscardHandler))
	for i, tc := range []struct {
		uid     uint32
		trusted bool
	}{{0, true}, {77, true}, {1000, false}} {
		near, far := net.Pipe()
		id := uint64(i + 1)
		p := newPeerConn(Peer{ID: id, UID: tc.uid, Trusted: tc.trusted}, near)
		h.srv.mu.Lock()
		h.srv.peers[id] = p
		h.srv.mu.Unlock()
		go h.srv.write(p)
		go h.srv.read(p)
		ask := func(verb string) string {
			t.Helper()
			b, _ := line(Request{ID: 1, Verb: verb, Group: "ipsec"})
			if _, err := far.Write(b); err != nil {
				t.Fatal(err)
			}
			var m Message
			if err := newLines(far, maxLine).next(&m); err != nil {
				t.Fatal(err)
			}
			return m.Error
		}
		if e := ask(VerbStatus); e != "" {
			t.Errorf("uid %d may not look: %s", tc.uid, e)
		}
		if e := ask(VerbDemote); strings.Contains(e, "permission denied") == tc.trusted {
			t.Errorf("uid %d: %q", tc.uid, e)
		}
		far.Close()
	}
}

func TestCredentials(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "a")
	defer f.Close()
	defer syscall.Close(fds[1])
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	uid, pid, err := credentials(conn.(*net.UnixConn))
	if err != nil || uid != uint32(os.Getuid()) || pid != int32(os.Getpid()) {
		t.Errorf("uid %d pid %d err %v", uid, pid, err)
	}
}

// A client that does not read is cut off; the others do not notice.
func TestSlowReaderIsCutOff(t *testing.T) {
	socket := filepath.Join(trustedtest.Dir(t), "s")
	h, _ := serve(t, socket)
	raw, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := client(t, socket)
	next(t, c.Events())
	b, _ := line(Request{ID: 1, Verb: VerbSubscribe})
	if _, err := raw.Write(b); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	var slow uint64
	for slow == 0 && time.Now().Before(deadline) {
		h.mu.Lock()
		if len(h.subbed) == 2 {
			slow = 1 // connections are numbered in order
		}
		h.mu.Unlock()
	}
	big := strings.Repeat("x", 4096)
	for range 4 * peerQueue {
		h.srv.Send(slow, Message{Event: EventCancel, Reason: big})
	}
	h.srv.mu.Lock()
	_, there := h.srv.peers[slow]
	h.srv.mu.Unlock()
	if there {
		t.Error("still connected")
	}
	if err := c.Term(t.Context(), "ipsec", 1); err != nil {
		t.Errorf("other client: %v", err)
	}
}

func TestLongLineEndsTheConnection(t *testing.T) {
	in := newLines(strings.NewReader(strings.Repeat("x", maxRequest+10)+"\n"), maxRequest)
	var r Request
	if err := in.next(&r); !errors.Is(err, errLine) {
		t.Errorf("got %v", err)
	}
}

// FuzzRequest: any line either decodes or is refused.
func FuzzRequest(f *testing.F) {
	f.Add(`{"id":1,"verb":"ready","group":"g","ready":{"in_sync":true}}`)
	f.Add(`{"id":-1}`)
	f.Fuzz(func(t *testing.T, s string) {
		var r Request
		if newLines(strings.NewReader(s+"\n"), maxRequest).next(&r) != nil {
			return
		}
		if _, err := line(r); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzMessage: what carpd says is read or refused by its clients, and nothing is
// lost on the way.
func FuzzMessage(f *testing.F) {
	f.Add(`{"id":1,"error":"no such group: x"}`)
	f.Add(`{"event":"state","group":"ipsec","seq":3,"state":{"group":"ipsec","state":"master","term":8,"instances":[{"name":"outside"}]}}`)
	f.Fuzz(func(t *testing.T, s string) {
		var m, again Message
		if newLines(strings.NewReader(s+"\n"), maxLine).next(&m) != nil {
			return
		}
		b, err := line(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := newLines(bytes.NewReader(b), maxLine).next(&again); err != nil {
			t.Errorf("%s cannot be read again: %v", b, err)
		}
		if m.State != nil {
			m.State.HasInstance("outside")
		}
	})
}

// A report of an older client is told from one that knows that nobody is demoted,
// and who does not know a field, or an event, is not troubled by it.
func TestOldAndNewUnderstandEachOther(t *testing.T) {
	for text, want := range map[string]Ready{
		`{"in_sync":true,"peer_ready":true}`: {InSync: true, PeerReady: true},
		`{"in_sync":true,"peer_ready":true,"peer_told":true,"willing_demotion":255}`: {InSync: true, PeerReady: true,
			PeerTold: true, WillingDemotion: 255},
		`{"in_sync":true,"of_the_future":[1]}`: {InSync: true},
	} {
		var got Ready
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	b, err := json.Marshal(Ready{PeerReady: true})
	if err != nil || strings.Contains(string(b), "demotion") || strings.Contains(string(b), "told") {
		t.Errorf("what is not known is said: %s, %v", b, err)
	}

	socket := filepath.Join(trustedtest.Dir(t), "s")
	h, _ := serve(t, socket)
	c := client(t, socket)
	for range 3 {
		next(t, c.Events()) // connected, and two snapshots
	}
	h.srv.Send(h.subbed[0], Message{Event: "of the future", Group: "ipsec"})
	h.srv.Send(h.subbed[0], Message{Event: EventFitness, Group: "ipsec", Fitness: &Fitness{Demotion: 3, Willing: true}})
	if m := next(t, c.Events()); m.Event != "of the future" {
		t.Errorf("%+v", m)
	}
	if m := next(t, c.Events()); m.Event != EventFitness || m.Fitness == nil || *m.Fitness != (Fitness{3, true}) ||
		m.State != nil {
		t.Errorf("%+v", m)
	}
}
