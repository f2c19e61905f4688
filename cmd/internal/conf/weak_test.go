package conf

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"testing"
)

// TestWeakKeysAreWarnedOf: a key that an attacker tries first is accepted, with a
// warning that says nothing of it.
func TestWeakKeysAreWarnedOf(t *testing.T) {
	random := make([]byte, 32)
	rand.Read(random)
	for key, weak := range map[string]bool{
		"aaaaaaaaaaaaaaaa":                                    true,
		"passwordpassword":                                    true,
		"MyPassword-12345":                                    true,
		"abcdefghijklmnop":                                    true,
		"abcabcabcabcabcd":                                    true,
		"0x" + strings.Repeat("0", 32):                        true,
		"0x" + strings.Repeat("5a", 32):                       true,
		"0x000102030405060708090a0b0c0d0e0f":                  true,
		"0x" + hex.EncodeToString([]byte("correct horse ba")): true,
		"kE7xvq5Tz0VwLr2B":                                    false,
		"0x" + hex.EncodeToString(random):                     false,
		hexKey:                                                false,
	} {
		inline, err := LoadSasyncd(write(t, "c", "interface carp1\npeer 10.0.0.2\nsharedkey "+key+"\n", 0o600))
		if err != nil {
			t.Fatal(err)
		}
		file, err := LoadSasyncd(write(t, "c", "interface carp1\npeer 10.0.0.2\nsharedkey file \""+
			write(t, "k", key+"\n", 0o600)+"\"\n", 0o600))
		if err != nil {
			t.Fatal(err)
		}
		for where, ws := range map[string][]Error{"inline": inline.Warnings, "in a file": file.Warnings} {
			if weak != (len(ws) == 1) {
				t.Errorf("%s %s: warnings %v", key, where, ws)
			}
			for _, w := range ws {
				if !strings.Contains(w.Error(), "can be guessed") || !strings.Contains(w.Remedy,
					"openssl rand -hex 32") {
					t.Errorf("%s: %v", key, w)
				}
				if strings.Contains(w.Problem, key[2:]) {
					t.Errorf("the key is in the warning: %v", w)
				}
			}
		}
	}
	const conf = "carp c { carpdev eth0 vhid 1 address 10.0.0.1 pass x key 1 KEY }"
	for key, weak := range map[string]bool{strings.Repeat("password", 4): true, "0x" + strings.Repeat("00", 32): true,
		hexKey: false, "kE7xvq5Tz0VwLr2BkE8yvq4Tz1VwLr3C": false,
		"0x" + hex.EncodeToString([]byte("correct horse battery staple, an")): true} {
		file := "file \"" + write(t, "k", key+"\n", 0o600) + "\""
		for _, written := range []string{key, file} {
			c, err := LoadCarpd(write(t, "carpd.conf", strings.Replace(conf, "KEY", written, 1), 0o600))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, w := range c.Warnings {
				found = found || strings.Contains(w.Error(), "can be guessed")
			}
			if found != weak {
				t.Errorf("%s of carpd, written as %s: warnings %v", key, written, c.Warnings)
			}
		}
	}
}
