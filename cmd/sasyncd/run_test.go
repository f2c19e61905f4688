package main

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"sasyncd/cmd/internal/conf"
)

// TestFixedDifference: peers and keys may change while running, nothing else.
func TestFixedDifference(t *testing.T) {
	const key = "sharedkey 0x000102030405060708090a0b0c0d0e0f\n"
	parse := func(text string) *conf.Sasyncd {
		t.Helper()
		c, err := conf.ParseSasyncd("test", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	running := parse("interface carp1\npeer 10.9.0.2\n" + key)
	for _, tt := range []struct{ text, want string }{
		{"peer 10.9.0.2\ninterface carp1\n" + key, ""},
		{"interface carp1\npeer 10.9.0.3\npeer 10.9.0.4\n" + key, ""},
		{"interface carp1\npeer 10.9.0.2\nsharedkey 0xff0102030405060708090a0b0c0d0e0f\n", ""},
		{"interface carp2\npeer 10.9.0.2\n" + key, "interface carp1"},
		{"interface carp1\npeer 10.9.0.2\nreplay interval 2s\n" + key, "replay interval 1s"},
	} {
		got, err := fixedDifference(running, parse(tt.text))
		if err != nil || got != tt.want {
			t.Errorf("%q: got %q %v, want %q", tt.text, got, err, tt.want)
		}
	}
}

// TestBootID is the kernel's.
func TestBootID(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	id := bootID()
	if got, want := hex.EncodeToString(id[:]), strings.ReplaceAll(strings.TrimSpace(string(b)), "-", ""); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
