package api

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/kernel/trusted/trustedtest"
)

// What waits for a slow client is bounded: of an event that the network can bring
// about there is one for each group and instance, the latest, in its place.
func TestMailbox(t *testing.T) {
	b := newMailbox()
	for i := range 10000 {
		for _, m := range []Message{
			{Event: EventPeer, Group: "g", Instance: fmt.Sprint(i % 3), Term: uint64(i)},
			{Event: EventContested, Group: "g", Term: uint64(i)},
		} {
			if !b.put(m, 2) {
				t.Fatal("an event that is superseded fills the mailbox")
			}
		}
	}
	for i := range 3 {
		if got := b.put(Message{Event: EventState, Group: "g", Term: uint64(i)}, 2); got != (i < 2) {
			t.Errorf("state %d: taken %v", i, got)
		}
	}
	b.put(Message{Event: EventPeer, Group: "g", Instance: "0", Term: 77}, 2)
	b.close()
	b.put(Message{Event: EventStall}, 2)
	var got []string
	for {
		m, ok := b.take()
		if !ok {
			break
		}
		got = append(got, fmt.Sprint(m.Event, " ", m.Instance, " ", m.Term))
	}
	want := []string{"peer 1 9997", "peer 2 9998", "contested  9999", "state  0", "state  1", "peer 0 77"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A daemon that does not read for longer than a write may take is not cut off by
// what the network brings about, and finds the latest of it, numbered without
// gaps.
func TestFloodDoesNotCutOffADaemon(t *testing.T) {
	socket := filepath.Join(trustedtest.Dir(t), "s")
	h, _ := serve(t, socket)
	c, err := Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, r := range []Request{{Verb: VerbHello, Name: "sasyncd", Prepare: true}, {Verb: VerbSubscribe}} {
		if _, err := c.Call(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	const flood = 100000
	for i := range flood {
		h.srv.Send(h.subbed[0], Message{Event: EventPeer, Group: "ipsec", Instance: "in-ipsec", Term: uint64(i)})
	}
	for seq := uint64(1); ; seq++ {
		m := next(t, c.Events())
		if m.Seq != seq {
			t.Fatalf("event %d comes where %d is due", m.Seq, seq)
		}
		if m.Term == flood-1 {
			return
		}
	}
}

// A daemon may be stopped for a minute; anybody else may not be for longer than a
// write may take.
func TestPatienceWithADaemon(t *testing.T) {
	for _, daemon := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := NewServer(&groups{}, nil, slog.New(slog.DiscardHandler))
			near, far := net.Pipe()
			p := newPeerConn(Peer{ID: 1, Trusted: true}, near)
			p.daemon.Store(daemon)
			done := make(chan struct{})
			go func() { s.write(p); close(done) }()
			p.out.put(Message{Event: EventState, Group: "ipsec"}, peerQueue)
			p.out.close()
			time.Sleep(time.Minute) // of virtual time: for as long nobody reads
			b, err := bufio.NewReader(far).ReadBytes('\n')
			switch {
			case daemon && (err != nil || string(b) != `{"event":"state","seq":1,"group":"ipsec"}`+"\n"):
				t.Errorf("the daemon reads %q, %v", b, err)
			case !daemon && !errors.Is(err, io.EOF):
				t.Errorf("another client reads %q, %v", b, err)
			}
			<-done
		})
	}
}
