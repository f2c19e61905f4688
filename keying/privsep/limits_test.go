package privsep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/trusted"
	"sasyncd/keying"
	"sasyncd/keying/vici"
	"sasyncd/keying/vici/vicitest"
)

// TestRequestsMakeRoom: what is bounded is what is under way, not what was asked for in
// the life of a connection; and an id may be used again after its answer.
func TestRequestsMakeRoom(t *testing.T) {
	conn, _ := serve(t, fakeSource{}, &recorder{})
	c := NewClient(conn)
	for i := range 3 * maxUnderWay {
		if err := c.Kill(within(t), keying.StrongSwan); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	conn, ended := serve(t, fakeSource{}, &recorder{})
	b, err := (&Request{ID: 7, Op: OpKill, Daemon: keying.StrongSwan}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		var buf [64]byte
		if _, err := conn.Read(buf[:]); err != nil {
			t.Fatalf("id used for the %d. time: %v, %v", i+1, err, <-ended)
		}
	}
}

// TestFailedDialsMakeRoom: nor do connections that could not be made count.
func TestFailedDialsMakeRoom(t *testing.T) {
	r := &recorder{charon: filepath.Join(t.TempDir(), "none")}
	c := newClient(t, fakeSource{}, r)
	for i := range 2 * maxDialled {
		if _, err := c.Dial(within(t), keying.StrongSwan); err == nil || errors.Is(err, ErrRefused) {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	charon := vicitest.Start(t)
	charon.Handle("version", func(vici.Message) (vici.Message, []vici.Packet) { return vici.Message{}, nil })
	r = &recorder{charon: charon.Socket}
	c = newClient(t, fakeSource{}, r)
	for i := range 2 * maxDialled { // one after the other
		v := dialSoon(t, c)
		if _, err := v.Call(within(t), "version"); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		v.Close()
	}
}

// opening is a configuration whose file cannot be opened, or which cannot be read.
type opening struct {
	fakeSource
	rules, open error
}

func (o opening) Rules() (Rules, error) {
	r, _ := o.fakeSource.Rules()
	return r, o.rules
}

func (o opening) Open(string) (*os.File, error) { return nil, o.open }

// TestErrorsKeepTheirMeaning: what was judged is told from what may pass, and an absent
// file from one that may not be read.
func TestErrorsKeepTheirMeaning(t *testing.T) {
	for name, tt := range map[string]struct {
		src    opening
		path   string
		is     error
		judged bool
	}{
		"absent":     {opening{open: fs.ErrNotExist}, "/a", fs.ErrNotExist, true},
		"forbidden":  {opening{open: fmt.Errorf("open: %w", fs.ErrPermission)}, "/a", fs.ErrPermission, true},
		"untrusted":  {opening{open: &trusted.Error{Path: "/a", At: "/"}}, "/a", fs.ErrPermission, true},
		"a failure":  {opening{open: unix.EIO}, "/a", nil, false},
		"not named":  {opening{}, "/b", ErrRefused, true},
		"unread":     {opening{rules: ErrUnread}, "/b", nil, false},
		"misread":    {opening{rules: errors.New("line 1")}, "/b", ErrRefused, true},
		"too long":   {opening{}, "/" + strings.Repeat("b", maxPath-1), ErrRefused, true},
		"and though": {opening{rules: errors.New("line 1"), open: fs.ErrNotExist}, "/a", fs.ErrNotExist, true},
	} {
		tt.src.file = "/a"
		_, err := newClient(t, tt.src, &recorder{}).Open(within(t), tt.path)
		if err == nil || tt.is != nil && !errors.Is(err, tt.is) || Judged(err) != tt.judged {
			t.Errorf("%s: %v, judged %v", name, err, Judged(err))
		}
		for _, other := range []error{fs.ErrNotExist, fs.ErrPermission, ErrRefused, keying.ErrNotRunning} {
			if other != tt.is && errors.Is(err, other) {
				t.Errorf("%s: is %v too", name, other)
			}
		}
	}
	c := newClient(t, fakeSource{}, &recorder{})
	if err := c.Running(within(t), keying.StrongSwan); Judged(err) || !errors.Is(err, keying.ErrNotRunning) {
		t.Errorf("a daemon that does not run: %v, judged %v", err, Judged(err))
	}
	c.Close()
	<-c.Ended()
	if err := c.Kill(within(t), keying.StrongSwan); err == nil || Judged(err) {
		t.Errorf("without a connection: %v, judged %v", err, Judged(err))
	}
}

// TestRulesAreReadOnce: daemons and hooks are those of the first request, files those of
// now.
func TestRulesAreReadOnce(t *testing.T) {
	src := new(changing)
	src.rules.Store(&Rules{Daemons: []keying.Daemon{keying.StrongSwan}})
	c := newClient(t, src, &recorder{})
	ctx := within(t)
	if err := c.Kill(ctx, keying.StrongSwan); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(ctx, path); !errors.Is(err, ErrRefused) {
		t.Errorf("a file that is not named yet: %v", err)
	}
	src.rules.Store(&Rules{Daemons: []keying.Daemon{keying.Libreswan}, Files: []string{path}})
	f, err := c.Open(ctx, path)
	if err != nil {
		t.Fatalf("a file that is named now: %v", err)
	}
	f.Close()
	if err := c.Kill(ctx, keying.StrongSwan); err != nil {
		t.Errorf("the daemon of the first request: %v", err)
	}
	if err := c.Kill(ctx, keying.Libreswan); !errors.Is(err, ErrRefused) {
		t.Errorf("one that is named since: %v", err)
	}
}

// changing is a configuration that changes between requests.
type changing struct{ rules atomic.Pointer[Rules] }

func (c *changing) Rules() (Rules, error)              { return *c.rules.Load(), nil }
func (c *changing) Open(path string) (*os.File, error) { return os.Open(path) }

// TestAnswersAreBounded: a control program that does not end its output does not fill the
// memory of who asked; what was cut off is the end.
func TestAnswersAreBounded(t *testing.T) {
	const line = "0123456789abcdef"
	r := &recorder{output: strings.Repeat(line, maxAnswer/len(line)+4096)}
	out, err := newClient(t, fakeSource{}, r).Control(within(t), keying.Libreswan, keying.Verb{Do: "sas"})
	if err != nil || len(out) != maxAnswer || out != r.output[:maxAnswer] {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

// TestLongestRequests: what is just as long as it may be goes through.
func TestLongestRequests(t *testing.T) {
	vips := make([]netip.Addr, maxVIPs)
	for i := range vips {
		vips[i] = netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i)})
	}
	for name, r := range map[string]Request{
		"addresses": {Op: OpHook, Order: keying.Order{State: "passive", VIPs: vips}},
		"line":      {Op: OpTell, Daemon: keying.ISAKMPD, Line: strings.Repeat("x", 255)},
		"path":      {Op: OpOpen, Path: strings.Repeat("x", maxPath)},
	} {
		b, err := r.Append(nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := ParseRequest(b)
		if err != nil || len(got.Order.VIPs) != len(r.Order.VIPs) || got.Line != r.Line || got.Path != r.Path {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := Request{Op: OpOpen, Path: strings.Repeat("x", maxPath+1)}
	b, err := long.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRequest(b); err == nil {
		t.Error("a longer path is accepted")
	}
	for _, flags := range []byte{0, 1, 2, 3, 4} {
		b, err := (&Request{Op: OpHook, Order: keying.Order{State: "passive"}}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		b[5] = flags
		got, err := ParseRequest(b)
		if (err == nil) != (flags < 4) || err == nil && (got.Order.Settled != (flags&2 != 0) ||
			(got.Order.State == "active") != (flags&1 != 0)) {
			t.Errorf("flags %d: %+v, %v", flags, got.Order, err)
		}
	}
}

// TestServerEndsWithItsContext: with the daemon that it serves, and what was asked for.
func TestServerEndsWithItsContext(t *testing.T) {
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	client, err := Conn(a)
	if err != nil {
		t.Fatal(err)
	}
	server, err := Conn(b)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{hold: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- newServer(t, fakeSource{}, r).Serve(ctx, server) }()
	c := NewClient(client)
	failed := make(chan error, 1)
	go func() { failed <- c.Kill(within(t), keying.StrongSwan) }()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		under := r.under
		r.mu.Unlock()
		if under == 1 {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatal("the request does not begin")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	r.mu.Lock()
	if r.under != 0 {
		t.Error("a request outlives the server")
	}
	r.mu.Unlock()
	if err := <-failed; err == nil {
		t.Error("the request succeeded")
	}
	<-c.Ended()
}
