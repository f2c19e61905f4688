package peer

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"sasyncd/sync/channel"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// overTCP runs two nodes on real sockets of loopback.
func overTCP(t testing.TB, keys channel.Keys) (cfgs [2]Config) {
	t.Helper()
	var listeners [2]net.Listener
	for i := range 2 {
		nl, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:0", i+1))
		if err != nil {
			t.Fatal(err)
		}
		listeners[i] = nl
	}
	for i := range 2 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(i+1))}}
		cfgs[i] = Config{
			Hello: func() *wire.Hello { return &wire.Hello{Min: 1, Max: 1, Node: nodeID(i + 1), Nonce: uint64(i + 1)} },
			Keys:  keys, Listeners: listeners[i : i+1], Log: (&journal{start: time.Now()}).logger(""),
			Peers: []Peer{{Name: fmt.Sprintf("node%d", 2-i), Addrs: []string{listeners[1-i].Addr().String()}}},
			Dial: func(ctx context.Context, address string) (net.Conn, error) {
				return d.DialContext(ctx,
					"tcp", address)
			},
		}
	}
	return cfgs
}

func TestOverTCP(t *testing.T) {
	cfgs := overTCP(t, derive(t, hexA))
	a, b := run(t, "node1", cfgs[0]), run(t, "node2", cfgs[1])
	until(t, 10*time.Second, "a session", both(a, b))
	r := sadbtest.NewRand(1)
	const batches = 50
	for i := range batches {
		m := &wire.Batch{Stream: 1, First: uint64(i)}
		for range 200 {
			m.Records = append(m.Records, wire.Record{Kind: wire.PutSA, SA: sadbtest.SA(r)})
		}
		until(t, 10*time.Second, "room in the queue", func() bool { return a.session(b.name).Send(m) })
	}
	until(t, 20*time.Second, "all batches", func() bool { return b.count(Message) == batches })
	for i, ev := range b.seen()[1:] {
		if m, ok := ev.Message.(*wire.Batch); !ok || m.First != uint64(i) || len(m.Records) != 200 {
			t.Fatalf("message %d is %v", i, ev.Message.Type())
		}
	}
	b.stop()
	until(t, 5*time.Second, "the end", func() bool { return a.count(Down) == 1 })
	if why := a.last(Down).Reason; why.Code != wire.ByeShutdown || !why.Remote {
		t.Errorf("the end is told as %s", why)
	}
}

// From Send on one node to the event on the other, 200 records each.
func BenchmarkSession(b *testing.B) {
	cfgs := overTCP(b, derive(b, hexA))
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var ms [2]*Manager
	for i := range ms {
		var err error
		if ms[i], err = New(cfgs[i]); err != nil {
			b.Fatal(err)
		}
		go ms[i].Run(ctx)
	}
	up := <-ms[0].Events()
	<-ms[1].Events()
	r := sadbtest.NewRand(1)
	m := &wire.Batch{Stream: 1}
	for range 200 {
		m.Records = append(m.Records, wire.Record{Kind: wire.PutSA, SA: sadbtest.SA(r)})
	}
	frame, _ := wire.AppendFrame(nil, m)
	b.SetBytes(int64(len(frame)))
	b.ResetTimer()
	go func() {
		for range b.N {
			for !up.Session.Send(m) {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	for range b.N {
		if ev := <-ms[1].Events(); ev.Kind != Message {
			b.Fatalf("%s: %s", ev.Kind, ev.Reason)
		}
	}
}
