package netlink

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNetlinkBuffersAreOverwritten: what was sent and received does not stay behind,
// whether the answer is read at once or held in parts.
func TestNetlinkBuffersAreOverwritten(t *testing.T) {
	req, err := NewRequester(func() (*Socket, error) { return OpenSocket(unix.NETLINK_ROUTE, 0, 0) }, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = req.Close() }()
	read := 0
	see := func(m Message) error { read += len(m.Payload); return nil }
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
	if err := req.Request(t.Context(), unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg),
		see); err != nil {
		t.Fatal(err)
	}
	check("request")
	req.sock.Buffer(256 << 10)
	if err := req.ask(t.Context(), unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg), see,
		func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	check("datagrams")
	// A request whose encoding failed half-way leaves nothing either.
	err = req.Batch(func(b *Batch) {
		b.Begin(unix.RTM_GETLINK, 0)
		b.Data = append(b.Data, "a key"...)
		b.Drop()
	}, nil)
	if n := len(bytes.Trim(req.out[:cap(req.out)], "\x00")); err != nil || n != 0 {
		t.Errorf("batch: %d bytes of the request that was dropped are left (%v)", n, err)
	}
}
