package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMarks(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	m := openMarks(dir, log)
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1")
	want := func(m *marks, router string, want map[netip.Addr]uint64) {
		t.Helper()
		if got := m.Senders(router); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", router, got, want)
		}
	}
	want(m, "x ipv4", map[netip.Addr]uint64{})
	for seq := range uint64(100) {
		m.Set("x ipv4", a, seq)
		m.Set("x ipv4", netip.Addr{}, 1<<63+seq)
		m.Set("y ipv6", b, 7)
	}
	// Killed: nothing is closed. A restart finds it all, and again.
	for range 2 {
		m = openMarks(dir, log)
		want(m, "x ipv4", map[netip.Addr]uint64{a: 99, {}: 1<<63 + 99})
		want(m, "y ipv6", map[netip.Addr]uint64{b: 7})
	}
	m.Set("y ipv6", b, 8)
	m.Close()
	if out.Len() > 0 {
		t.Errorf("says %s", out.String())
	}

	// A line that is torn costs that mark only.
	file := filepath.Join(dir, "marks")
	src, err := os.ReadFile(file)
	if err != nil || len(src) != 3*markLine {
		t.Fatalf("%d bytes, %v", len(src), err)
	}
	if info, _ := os.Stat(file); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	at := bytes.Index(src, []byte("y ipv6"))
	at -= at % markLine
	copy(src[at:], "zzzz")
	if err := os.WriteFile(file, src, 0o600); err != nil {
		t.Fatal(err)
	}
	m = openMarks(dir, log)
	want(m, "x ipv4", map[netip.Addr]uint64{a: 99, {}: 1<<63 + 99})
	want(m, "y ipv6", map[netip.Addr]uint64{})
	if !strings.Contains(out.String(), "remembered sequence number is lost") {
		t.Errorf("says %q", out.String())
	}

	// Of many senders the latest ones stay.
	for i := range 40 {
		m.Set("x ipv4", netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), uint64(1000+i))
	}
	m = openMarks(dir, log)
	got := m.Senders("x ipv4")
	if len(got) != keptSenders+1 || got[netip.AddrFrom4([4]byte{10, 1, 0, 39})] != 1039 || got[netip.Addr{}] != 1<<63+
		99 {
		t.Errorf("%v", got)
	}
}

func TestMarksWithoutDirectory(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	m := openMarks(filepath.Join(t.TempDir(), "nosuch"), log)
	for i := range 3 {
		m.Set("x ipv4", netip.Addr{}, uint64(i))
	}
	m.Close()
	if n := strings.Count(out.String(), "are not kept"); n != 1 || len(m.Senders("x ipv4")) != 0 {
		t.Errorf("said %d times: %s", n, out.String())
	}

	// What is a directory cannot be read either; a name that is too long is
	// not kept, the others are.
	out.Reset()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "marks"), 0o700); err != nil {
		t.Fatal(err)
	}
	openMarks(dir, log).Set("x ipv4", netip.Addr{}, 1)
	if !strings.Contains(out.String(), "are not kept") {
		t.Errorf("says %q", out.String())
	}
	out.Reset()
	dir = t.TempDir()
	m = openMarks(dir, log)
	m.Set(strings.Repeat("x", markLine), netip.Addr{}, 1)
	m.Set("x ipv4", netip.Addr{}, 5)
	if got := openMarks(dir, log).Senders("x ipv4"); got[netip.Addr{}] != 5 || !strings.Contains(out.String(),
		"too long") {
		t.Errorf("%v, says %q", got, out.String())
	}
}

func TestCompareMarks(t *testing.T) {
	for _, tc := range []struct {
		a, b uint64
		want int
	}{{1, 2, -1}, {2, 1, 1}, {5, 5, 0}, {1, 1<<64 - 1, 1}, {1<<64 - 1, 1, -1}} {
		if got := compareMarks(tc.a, tc.b); got != tc.want {
			t.Errorf("%s: %d, want %d", fmt.Sprint(tc.a, tc.b), got, tc.want)
		}
	}
}
