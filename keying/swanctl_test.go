package keying

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lintFile reads a sample and judges it as if all of it were loaded; "node" is
// a tunnel of this node alone, and "elsewhere" is not loaded.
func lintFile(t *testing.T, name string) []string {
	t.Helper()
	l := Local{Places: map[Daemon]Place{StrongSwan: {Settings: filepath.Join("testdata/swanctl", name)}}}
	text, err := l.Control(t.Context(), StrongSwan, Verb{Do: "settings"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "horse") {
		t.Errorf("a secret is in %s", text)
	}
	var file []swanConn
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	var loaded []connection
	for _, c := range file {
		if c.Name != "elsewhere" {
			loaded = append(loaded, connection{name: c.Name})
		}
	}
	var out []string
	for _, l := range lintSwanctl(file, loaded, func(c connection) bool { return c.name != "node" }) {
		if !strings.HasSuffix(l.Remedy, "in swanctl.conf") && !strings.Contains(l.Remedy,
			"reqid = NUMBER in swanctl.conf") {
			t.Errorf("remedy %q", l.Remedy)
		}
		out = append(out, l.What)
	}
	return out
}

func TestSwanctlSamples(t *testing.T) {
	if got := lintFile(t, "good.conf"); len(got) != 0 {
		t.Errorf("good.conf: %q", got)
	}
	got := lintFile(t, "bad.conf")
	want := []string{"started/a is initiated when it is loaded", "started/b has no reqid",
		"connection mobike has MOBIKE"}
	if len(got) != len(want) {
		t.Fatalf("bad.conf: %q", got)
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, w) }) {
			t.Errorf("bad.conf: %q lacks %q", got, w)
		}
	}
}

func TestSwanctlThatCannotBeRead(t *testing.T) {
	if text, err := swanSettings(filepath.Join(t.TempDir(), "absent")); err != nil || text != "[]" {
		t.Errorf("without a file: %q, %v", text, err)
	}
	for _, text := range []string{"connections {", "}", "word", "connections { a }", "x : y"} {
		if got, err := readSwanctl(swanFile{"x", text}, nil); err == nil {
			t.Errorf("%q became %+v", text, got)
		}
	}
	loop := filepath.Join(t.TempDir(), "loop.conf")
	if err := os.WriteFile(loop, []byte("include loop.conf\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := swanSettings(loop); err == nil {
		t.Error("a file that includes itself is read")
	}
}

func FuzzSwanctl(f *testing.F) {
	for _, name := range []string{"good.conf", "bad.conf", "conf.d/more.conf"} {
		b, err := os.ReadFile(filepath.Join("testdata/swanctl", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("a : a { b : a { } }")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = readSwanctl(swanFile{"fuzz", text}, func(string) ([]swanFile, error) { return nil, nil })
	})
}

// TestUnits judges the stock units of Debian 12 as systemd shows them, without
// and with the drop-ins of deploy/systemd.
func TestUnits(t *testing.T) {
	for _, tt := range []struct {
		name  string
		d     Daemon
		props map[string]string
		stop  string
		lint  []string
	}{
		{"no systemd", StrongSwan, nil, StopAsIs, nil},
		{"strongswan, stock", StrongSwan, map[string]string{"KillSignal": "15", "Restart": "on-abnormal"}, StopTears,
			[]string{"a stop tells", "stays away"}},
		{"strongswan", StrongSwan, map[string]string{"KillSignal": "9", "Restart": "always"}, StopKeeps, nil},
		{"strongswan, half", StrongSwan, map[string]string{"KillSignal": "9", "Restart": "on-abnormal"}, StopKeeps,
			[]string{"stays away"}},
		{"openiked, stock", OpenIKED, map[string]string{"KillSignal": "15",
			"Restart": "no", "ExecStart": "{ path=/usr/sbin/iked ; argv[]=/usr/sbin/iked -d ; }"},
			StopTears, []string{"a stop removes", "starts active"}},
		{"openiked", OpenIKED, map[string]string{"KillSignal": "9",
			"Restart": "no", "ExecStart": "{ path=/usr/sbin/iked ; argv[]=/usr/sbin/iked -S ; }"}, StopKeeps, nil},
		{"openiked, restarted", OpenIKED, map[string]string{"KillSignal": "9",
			"Restart": "always", "ExecStart": "iked -S"}, StopKeeps, []string{"empties"}},
		{"libreswan, stock", Libreswan,
			map[string]string{"ExecStop": "{ argv[]=/usr/libexec/ipsec/whack --shutdown ; }", "Restart": "on-failure",
				"ExecStopPost": "{ argv[]=/sbin/ip xfrm policy flush ; }",
				"ExecStartPre": "{ argv[]=/usr/libexec/ipsec/_stackmanager start ; }"},
			StopTears, []string{"a stop tells", "flushes", "stays away"}},
		{"libreswan", Libreswan, map[string]string{"ExecStop": "{ argv[]=/usr/libexec/ipsec/whack --shutdown " +
			"--leave-state ; }", "Restart": "always"}, StopKeeps, nil},
	} {
		if tt.props != nil {
			tt.props["Id"] = "x.service"
		}
		stop, lint := judgeUnit(tt.d, tt.props)
		if stop != tt.stop || len(lint) != len(tt.lint) {
			t.Errorf("%s: %q, %v; want %q, %v", tt.name, stop, lint, tt.stop, tt.lint)
			continue
		}
		for i, w := range tt.lint {
			if !strings.Contains(lint[i].What, w) || !strings.Contains(lint[i].Remedy, "x.service.d/50-sasyncd.conf") {
				t.Errorf("%s: %v lacks %q", tt.name, lint[i], w)
			}
		}
	}
}
