package main

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzMarks: whatever the file of sequence numbers has become, it is read, and
// what is seen from now on is kept.
func FuzzMarks(f *testing.F) {
	line, err := markName{"inside/ipv4", netip.MustParseAddr("192.0.2.1")}.line(77)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(line))
	f.Add([]byte("0000000000000001 self inside/ipv6\n00"))
	f.Add([]byte("0000000000000001 self " + strings.Repeat("x", 2*markLine)))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "marks"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		sender := netip.MustParseAddr("192.0.2.9")
		m := openMarks(dir, slog.New(slog.DiscardHandler))
		m.Set("r", sender, 5)
		had := len(m.Senders("r"))
		m.Close()
		again := openMarks(dir, slog.New(slog.DiscardHandler))
		defer again.Close()
		if got, ok := again.Senders("r")[sender]; had < keptSenders && (!ok || got != 5) {
			t.Errorf("what was seen is forgotten: %d, %v", got, ok)
		}
	})
}

// FuzzFrozen: whatever is left of the file, nothing is believed that was not
// written, and a freeze is.
func FuzzFrozen(f *testing.F) {
	f.Add([]byte(`{"ipsec":{"term":3,"from_ns":1,"until_ns":9223372036854775807}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"ipsec":nu`))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "frozen"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		z := openFreezer(dir)
		z.Frozen("ipsec")
		if err := z.Freeze("gate", 4, 1<<62); err != nil {
			t.Fatal(err)
		}
		if term, until := z.Frozen("gate"); term != 4 || until != 1<<62 {
			t.Errorf("term %d until %d", term, until)
		}
	})
}
