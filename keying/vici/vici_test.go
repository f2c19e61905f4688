package vici_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/keying/vici"
	"sasyncd/keying/vici/vicitest"
)

// The first two are the examples of the protocol's description.
var vectors = []struct {
	name string
	hex  string
	p    vici.Packet
}{
	{"list-conns request", "0000000c 00 0a 6c6973742d636f6e6e73", vici.Packet{Type: vici.CmdRequest,
		Name: "list-conns"}},
	{"message", "0000004e 01" +
		"03 04 6b657931 0006 76616c756531" +
		"01 08 73656374696f6e31" +
		"01 0b 7375622d73656374696f6e" +
		"03 04 6b657932 0006 76616c756532" +
		"02" +
		"04 05 6c69737431 05 0005 6974656d31 05 0005 6974656d32 06" +
		"02",
		vici.Packet{Type: vici.CmdResponse, Message: vici.Message{
			vici.Value("key1", "value1"),
			vici.Section("section1",
				vici.Section("sub-section", vici.Value("key2", "value2")),
				vici.List("list1", "item1", "item2")),
		}}},
	{"event", "00000010 07 0b 6368696c642d7570646f776e 04 00", vici.Packet{}},
	{"empty list and value", "0000000a 01 04 01 6c 06 03 01 76 0000", vici.Packet{Type: vici.CmdResponse,
		Message: vici.Message{vici.List("l"), vici.Value("v", "")}}},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		raw, err := hex.DecodeString(strings.ReplaceAll(v.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		p, err := vici.ReadPacket(bytes.NewReader(raw))
		if v.p.Type == 0 && v.p.Name == "" {
			if err == nil {
				t.Errorf("%s: was read, is not valid", v.name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		if d := cmp.Diff(v.p, *p); d != "" {
			t.Errorf("%s (-want +got)\n%s", v.name, d)
		}
		if out, err := v.p.Append(nil); err != nil || !bytes.Equal(out, raw) {
			t.Errorf("%s: encoded %x (%v), want %x", v.name, out, err, raw)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	deep := vici.Message{vici.Value("a", "b")}
	for range 40 {
		deep = vici.Message{vici.Section("s", deep...)}
	}
	for name, m := range map[string]vici.Message{
		"long value":   {vici.Value("a", strings.Repeat("x", 1<<16))},
		"long item":    {vici.List("a", strings.Repeat("x", 1<<16))},
		"long name":    {vici.Value(strings.Repeat("x", 256), "")},
		"no name":      {vici.Section("")},
		"deep nesting": deep,
	} {
		if b, err := m.Append(nil); err == nil {
			t.Errorf("%s became %d bytes", name, len(b))
		}
	}
}

// FuzzPacket: whatever is read can be written again, to the same bytes.
func FuzzPacket(f *testing.F) {
	for _, v := range vectors {
		if b, err := v.p.Append(nil); err == nil {
			f.Add(b[4:])
		}
	}
	f.Add([]byte{1, 1, 1, 'a', 1, 1, 'b', 2, 2})
	f.Add([]byte{7, 1, 'e', 4, 1, 'l', 5, 0, 1, 'x', 6})
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := vici.ParsePacket(in)
		if err != nil {
			return
		}
		out, err := p.Append(nil)
		if err != nil {
			t.Fatalf("%v was read and cannot be written: %v", p, err)
		}
		if !bytes.Equal(out[4:], in) {
			t.Fatalf("%x became %x", in, out[4:])
		}
		if _, err := vici.ReadPacket(bytes.NewReader(out)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHugePacketIsRefusedUnread(t *testing.T) {
	if _, err := vici.ReadPacket(io.MultiReader(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff}),
		neverRead{t})); err == nil {
		t.Error("a packet of 4 GiB was read")
	}
}

type neverRead struct{ t *testing.T }

func (n neverRead) Read([]byte) (int, error) {
	n.t.Error("the body was asked for")
	return 0, io.EOF
}

func dial(t *testing.T, s *vicitest.Server) *vici.Client {
	t.Helper()
	conn, err := net.Dial("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	c := vici.NewClient(conn)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCommands(t *testing.T) {
	s := vicitest.Start(t)
	s.Handle("version", func(vici.Message) (vici.Message, []vici.Packet) {
		return vici.Message{vici.Value("version", "5.9.8")}, nil
	})
	s.Handle("initiate", func(vici.Message) (vici.Message, []vici.Packet) {
		return vici.Message{vici.Value("success", "no"), vici.Value("errmsg", "no such child")}, nil
	})
	s.Handle("list-conns", func(vici.Message) (vici.Message, []vici.Packet) {
		var evs []vici.Packet
		for _, n := range []string{"a", "b"} {
			evs = append(evs, vici.Packet{Type: vici.Event, Name: "list-conn", Message: vici.Message{vici.Section(n)}})
		}
		return nil, evs
	})
	c := dial(t, s)
	ctx := t.Context()
	for range 2 { // an error is not the end of the connection
		if m, err := c.Call(ctx, "version"); err != nil || m.Get("version") != "5.9.8" {
			t.Errorf("version: %v, %v", m, err)
		}
		var refused *vici.CommandError
		if _, err := c.Call(ctx, "initiate", vici.Value("child", "x")); !errors.As(err, &refused) ||
			refused.Message != "no such child" {
			t.Errorf("initiate: %v", err)
		}
		if _, err := c.Call(ctx, "conquer"); !errors.Is(err, vici.ErrUnknown) {
			t.Errorf("an unknown command: %v", err)
		}
		var names []string
		err := c.Stream(ctx, "list-conns", "list-conn",
			func(m vici.Message) { names = append(names, m.Sections()[0].Name) })
		if err != nil || strings.Join(names, " ") != "a b" {
			t.Errorf("list-conns: %q, %v", names, err)
		}
		if err := c.Stream(ctx, "list-conns", "no-such-event", func(vici.Message) {}); !errors.Is(err,
			vici.ErrUnknown) {
			t.Errorf("an unknown event: %v", err)
		}
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	s := vicitest.Start(t)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	s.Handle("initiate", func(vici.Message) (vici.Message, []vici.Packet) { <-hang; return nil, nil })
	c := dial(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Call(ctx, "initiate"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
	if _, err := c.Call(t.Context(), "version"); err == nil {
		t.Error("a connection with an answer due was used again")
	}
}

func TestListenEndsWithTheDaemon(t *testing.T) {
	s := vicitest.Start(t)
	s.Handle("version", func(vici.Message) (vici.Message, []vici.Packet) { return nil, nil })
	got := make(chan string, 100)
	done := make(chan error, 1)
	c := dial(t, s)
	go func() {
		done <- c.Listen(t.Context(), func(e string, m vici.Message) { got <- e + " " + m.String() }, "no-such-event",
			"child-updown")
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ev := ""; ev == ""; {
		s.Emit("child-updown", vici.Message{vici.Value("up", "yes")}) // until it has registered
		select {
		case ev = <-got:
			if ev != "child-updown up=yes" {
				t.Errorf("event %q", ev)
			}
		case <-tick.C:
		}
	}
	s.Stop()
	if err := <-done; err == nil {
		t.Error("the daemon has gone, and Listen ended well")
	}
	s.Listen(t)
}
