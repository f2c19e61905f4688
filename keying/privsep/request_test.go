package privsep

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"sasyncd/keying"
)

// requests are one of each kind.
func requests() []Request {
	return []Request{
		{ID: 1, Op: OpRunning, Daemon: keying.StrongSwan},
		{ID: 2, Op: OpDial, Daemon: keying.StrongSwan},
		{ID: 3, Op: OpTell, Daemon: keying.ISAKMPD, Line: "M active"},
		{ID: 4, Op: OpKill, Daemon: keying.OpenIKED},
		{ID: 5, Op: OpStart, Daemon: keying.Libreswan},
		{ID: 6, Op: OpControl, Daemon: keying.Libreswan, Verb: keying.Verb{Do: "initiate", Conn: "site-1"}},
		{ID: 7, Op: OpUnit, Daemon: keying.OpenIKED},
		{ID: 8, Op: OpHook, Order: keying.Order{State: "active", Group: "outside", Term: 7, Reason: "no master heard",
			Settled: true,
			VIPs:    []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}},
		{ID: 9, Op: OpHook, Order: keying.Order{State: "passive"}},
		{ID: 10, Op: OpOpen, Path: "/etc/sasyncd.key"},
		{ID: 1<<32 - 1, Op: OpCancel},
	}
}

func TestRequestsSurvive(t *testing.T) {
	seen := map[Op]bool{}
	for _, r := range requests() {
		b, err := r.Append(nil)
		if err != nil {
			t.Fatalf("%v: %v", r.Op, err)
		}
		got, err := ParseRequest(b)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
		seen[r.Op] = true
		for n := range b {
			if got, err := ParseRequest(b[:n]); err == nil {
				t.Errorf("%v cut to %d of %d bytes became %+v", r.Op, n, len(b), got)
			}
		}
		if _, err := ParseRequest(append(b, 0)); err == nil {
			t.Errorf("%v with a byte too many is accepted", r.Op)
		}
	}
	for op := OpRunning; op <= OpCancel; op++ {
		if !seen[op] || strings.HasPrefix(op.String(), "op ") {
			t.Errorf("%v is not tried", op)
		}
	}
}

func TestRequestsThatCannotBe(t *testing.T) {
	for name, r := range map[string]Request{
		"another daemon":    {Op: OpKill, Daemon: "sshd"},
		"no daemon":         {Op: OpKill},
		"a long line":       {Op: OpTell, Daemon: keying.ISAKMPD, Line: strings.Repeat("x", 256)},
		"too many VIPs":     {Op: OpHook, Order: keying.Order{VIPs: make([]netip.Addr, maxVIPs+1)}},
		"a path of 64 KiB":  {Op: OpOpen, Path: strings.Repeat("x", 1<<16)},
		"an operation of 0": {},
	} {
		b, err := r.Append(nil)
		if err == nil {
			_, err = ParseRequest(b)
		}
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, r := range requests() {
		b, err := r.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		again, err := r.Append(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add((&Reply{ID: 1, Status: StatusMore, Data: []byte("text")}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReply(b)
		if err == nil && !bytes.Equal(r.Append(nil), b) {
			t.Errorf("%x became %+v", b, r)
		}
	})
}
