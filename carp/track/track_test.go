package track

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/bfd"
)

// told collects what a tracker says.
type told chan int

func (c told) Track(_, _ string, by int, _ string)        { c <- by }
func (c told) BFD(string, netip.Addr, string, bfd.Status) {}

// follow runs one track.
func follow(t *testing.T, c Config) told {
	t.Helper()
	ch := make(told, 16)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = New([]Config{c}, ch, slog.New(slog.DiscardHandler)).Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return ch
}

func (c told) want(t *testing.T, by int) {
	t.Helper()
	select {
	case got := <-c:
		if got != by {
			t.Fatalf("demotes by %d, want %d", got, by)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("does not demote by %d", by)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write := func(s string) {
		if err := os.WriteFile(path+".new", []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	c := follow(t, Config{Kind: File, Target: path, Demote: 7})
	write("")
	c.want(t, 7)
	write("30\n")
	c.want(t, 30)
	write("-999")
	c.want(t, 255)
	write("0")
	c.want(t, 0)
	write("5")
	c.want(t, 5)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.want(t, 0)
}

func TestExec(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "probe")
	flag := filepath.Join(dir, "good")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ -e "+filepath.Join(dir, "hang")+
		" ] && { sleep 60; exit; }\n[ -e "+flag+" ]\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := follow(t, Config{Kind: Exec, Target: script, Demote: 9, Interval: 20 * time.Millisecond,
		Timeout: 2 * time.Second})
	c.want(t, 9)
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.want(t, 0)
	if err := os.WriteFile(filepath.Join(dir, "hang"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.want(t, 9)
}

// A raw socket needs privilege; the drills of tests/election run with it, so
// only what is pure is tested here.
func TestAnswers(t *testing.T) {
	if got := checksum([]byte{8, 0, 0, 0, 0x12, 0x34, 0, 1}); got != 0xe5ca {
		t.Errorf("checksum %#x", got)
	}
	v4, v6, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("192.0.2.2")
	from := func(a netip.Addr) unix.Sockaddr {
		if a.Is6() {
			return &unix.SockaddrInet6{Addr: a.As16()}
		}
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	header := append([]byte{0x46}, make([]byte, 23)...) // 24 bytes, with an option
	icmp := func(kind byte) []byte { return []byte{kind, 0, 0, 0, 0x12, 0x34, 0, 7} }
	for _, tc := range []struct {
		what string
		addr netip.Addr
		b    []byte
		from unix.Sockaddr
		ok   bool
	}{
		{"reply", v4, append(header, icmp(0)...), from(v4), true},
		{"reply of IPv6", v6, icmp(129), from(v6), true},
		{"request", v4, append(header, icmp(8)...), from(v4), false},
		{"somebody else's", v4, append(header, icmp(0)...), from(other), false},
		{"somebody else's, IPv6", v6, icmp(129), from(netip.MustParseAddr("2001:db8::2")), false},
		{"another asker's", v4, append(header, 0, 0, 0, 0, 1, 1, 0, 7), from(v4), false},
		{"stub", v4, []byte{0x45}, from(v4), false},
		{"header without a message", v4, header, from(v4), false},
		{"no address", v4, icmp(0), nil, false},
		{"reply of the link", netip.MustParseAddr("fe80::1%lo"), icmp(129), from(netip.MustParseAddr("fe80::1")), true},
	} {
		if seq, ok := answers(tc.b, tc.from, tc.addr, 0x1234); ok != tc.ok || ok && seq != 7 {
			t.Errorf("%s: %d %v", tc.what, seq, ok)
		}
	}
	for _, fail := range []int{1, 3, 5} {
		p := &pinger{addr: netip.MustParseAddr("127.0.0.1"), fail: fail, timeout: time.Nanosecond}
		for i := 1; i <= 6; i++ {
			if err := p.check(t.Context()); (err != nil) != (i >= fail) {
				t.Errorf("after %d failures of %d: %v", i, fail, err)
			}
		}
	}
}

func TestLinkWithoutInterface(t *testing.T) {
	c := follow(t, Config{Kind: Link, Target: "nosuch0", Demote: 3})
	c.want(t, 3)
	if err := carrier("lo"); err != nil {
		t.Errorf("loopback: %v", err)
	}
}

// What cannot be looked at is not well.
func TestUnreadable(t *testing.T) {
	for _, c := range []Config{
		{Kind: File, Target: t.TempDir(), Demote: 6},
		{Kind: Exec, Target: filepath.Join(t.TempDir(), "nosuch"), Demote: 6, Interval: time.Hour,
			Timeout: time.Second},
	} {
		follow(t, c).want(t, 6)
	}
}

// An end that comes while a command hangs is not waited for.
func TestEndOfTracks(t *testing.T) {
	script := filepath.Join(t.TempDir(), "hang")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsleep 60\nexit\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	tracks := []Config{{Kind: Exec, Target: script, Demote: 1, Interval: time.Hour, Timeout: time.Hour},
		{Kind: Link, Target: "lo", Demote: 1}}
	go func() { done <- New(tracks, make(told, 16), slog.New(slog.DiscardHandler)).Run(ctx) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
	}
}

// lateEcho answers with numbers that it is given.
type lateEcho struct{ answers []uint16 }

func (l *lateEcho) Send(uint16) error { return nil }
func (l *lateEcho) Close()            {}
func (l *lateEcho) Receive(time.Duration) (seq uint16, ok bool, err error) {
	if len(l.answers) == 0 {
		return 0, false, errSilent
	}
	seq = l.answers[0]
	l.answers = l.answers[1:]
	return seq, true, nil
}

// TestLateEcho: an answer to an earlier request is none to this one.
func TestLateEcho(t *testing.T) {
	for _, tt := range []struct {
		answers []uint16
		ok      bool
	}{{nil, false}, {[]uint16{1}, true}, {[]uint16{0, 65535}, false}, {[]uint16{0, 1}, true}, {[]uint16{2}, false}} {
		p := &pinger{timeout: 10 * time.Second, fail: 1, open: func(netip.Addr) (echoer, error) {
			return &lateEcho{tt.answers}, nil
		}}
		if err := p.check(t.Context()); (err == nil) != tt.ok {
			t.Errorf("answers %d: %v", tt.answers, err)
		}
	}
}
