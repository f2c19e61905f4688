package kernel

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/sync/sadb"
)

// TestNetlinkBuffersAreOverwritten: what was sent and received does not stay behind,
// whether the answer is read at once or held in parts.
func TestNetlinkBuffersAreOverwritten(t *testing.T) {
	r, err := openRouting()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	req := r.req
	read := 0
	see := func(m message) error { read += len(m.payload); return nil }
	check := func(what string) {
		t.Helper()
		if read == 0 {
			t.Fatalf("%s: nothing was read", what)
		}
		if n := len(bytes.Trim(req.sock.buf, "\x00")); n != 0 {
			t.Errorf("%s: %d bytes of the answer are left", what, n)
		}
		if n := len(bytes.Trim(req.out[:cap(req.out)], "\x00")); n != 0 {
			t.Errorf("%s: %d bytes of the request are left", what, n)
		}
		read = 0
	}
	if err := req.request(t.Context(), unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg), see); err != nil {
		t.Fatal(err)
	}
	check("request")
	req.sock.buf = make([]byte, scanBuffer)
	if err := req.ask(t.Context(), unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg), see, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	check("datagrams")
}

// TestEventBufferIsOverwritten: an announcement does not stay behind in the buffer
// that it came in.
func TestEventBufferIsOverwritten(t *testing.T) {
	k := &Kernel{log: slog.New(slog.DiscardHandler), now: time.Now}
	w := &watcher{k: k, decoder: newDecoder(func(uint32) string { return "" }), events: make(chan sadb.Event, 1)}
	payload := make([]byte, sizeSA)
	native.PutUint16(payload[saFamily:], unix.AF_INET)
	b, at := beginMessage(nil, msgNewSA, 0, 1, 2)
	b = append(b, payload...)
	endMessage(b, at)
	if !w.tell(context.Background(), b) || len(w.events) != 1 {
		t.Fatal("the event was not told")
	}
	if ev := <-w.events; ev.Kind != sadb.EventPutSA {
		t.Errorf("told %+v", ev)
	}
	if n := len(bytes.Trim(b, "\x00")); n != 0 {
		t.Errorf("%d bytes of the announcement are left", n)
	}
}
