package xfrm

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// TestEventBufferIsOverwritten: an announcement does not stay behind in the buffer
// that it came in.
func TestEventBufferIsOverwritten(t *testing.T) {
	k := &Kernel{log: slog.New(slog.DiscardHandler), now: time.Now}
	w := &watcher{k: k, decoder: newDecoder(func(uint32) string { return "" }), events: make(chan sadb.Event, 1)}
	payload := make([]byte, sizeSA)
	native.PutUint16(payload[saFamily:], unix.AF_INET)
	b, at := netlink.BeginMessage(nil, msgNewSA, 0, 1, 2)
	b = append(b, payload...)
	netlink.EndMessage(b, at)
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
