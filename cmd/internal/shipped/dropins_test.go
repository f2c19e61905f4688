package shipped

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sasyncd/keying"
)

// dropIns are the units that they are for, in the shortest form that systemd
// accepts, with the lines of Debian's units that would do harm.
var dropIns = map[string]struct {
	stock string
	want  map[string][]string // the last words on each key
}{
	"strongswan.service": {"[Service]\nType=notify\nExecStart=/bin/true\nRestart=on-abnormal\n", map[string][]string{
		"KillSignal": {"SIGKILL"}, "SuccessExitStatus": {"SIGKILL"}, "Restart": {"always"},
	}},
	"strongswan-starter.service": {"[Service]\nExecStart=/bin/true\nRestart=on-abnormal\n", map[string][]string{
		"KillSignal": {"SIGKILL"}, "SuccessExitStatus": {"SIGKILL"}, "Restart": {"always"},
	}},
	"ipsec.service": {"[Service]\nType=notify\nRestart=on-failure\nRestartPreventExitStatus=12\nExecStartPre=/bin/false flush\n" +
		"ExecStart=/bin/true\nExecStop=/bin/false delete\nExecStopPost=/bin/false flush\n", map[string][]string{
		"ExecStop":     {"/usr/libexec/ipsec/whack --shutdown --leave-state"},
		"ExecStopPost": {"-/usr/sbin/sasyncd guard-wait"}, "ExecStartPost": {"-/usr/sbin/sasyncd guard-wait"},
		"SuccessExitStatus": {"12 SIGKILL"}, "RestartPreventExitStatus": nil, "Restart": {"always"},
	}},
	"iked.service": {"[Service]\nType=forking\nExecStart=/bin/true\n", map[string][]string{
		"ExecStart": {"/usr/sbin/iked -S"}, "KillSignal": {"SIGKILL"}, "SuccessExitStatus": {"SIGKILL"},
		"Restart": {"no"},
	}},
	"openiked.service": {"[Service]\nType=forking\nExecStart=/bin/true\n", map[string][]string{
		"ExecStart": {"/usr/sbin/iked -S"}, "KillSignal": {"SIGKILL"}, "SuccessExitStatus": {"SIGKILL"},
		"Restart": {"no"},
	}},
}

const dropIn = "50-sasyncd.conf"

// TestDropInsTakeEffect: what the stock units say about stopping and flushing
// is overruled. An empty assignment clears what came before, as in systemd.
func TestDropInsTakeEffect(t *testing.T) {
	for name, d := range dropIns {
		have := map[string][]string{}
		for line := range strings.Lines(d.stock + read(t, "adopt", name+".d", dropIn)) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			switch {
			case !ok || key[0] == '#':
			case value == "":
				have[key] = nil
			case strings.HasPrefix(key, "Exec") || strings.HasSuffix(key, "ExitStatus"):
				have[key] = append(have[key], value)
			default:
				have[key] = []string{value}
			}
		}
		for key, want := range d.want {
			if !slices.Equal(have[key], want) {
				t.Errorf("%s: %s is %q, want %q", name, key, have[key], want)
			}
		}
		for _, v := range have["ExecStartPre"] {
			if strings.Contains(v, "flush") || strings.Contains(v, "_stackmanager") {
				t.Errorf("%s: its start flushes: %s", name, v)
			}
		}
		// Nothing may fail between the guard and the start that flushes.
		if pre := have["ExecStartPre"]; name == "ipsec.service" && !strings.Contains(pre[len(pre)-1],
			"/usr/sbin/sasyncd guard ") {
			t.Errorf("%s: the last thing before it is %s", name, pre[len(pre)-1])
		}
	}
}

// TestDropInsAreForAll: the IKE daemons that sasyncd looks for by their units have one
// each, and both names of OpenIKED's have the same.
func TestDropInsAreForAll(t *testing.T) {
	for d, p := range keying.Places() {
		if d == keying.ISAKMPD { // no distribution has it
			continue
		}
		for _, u := range p.Units {
			if _, ok := dropIns[u]; !ok {
				t.Errorf("%s has no drop-in", u)
			}
			for _, f := range []string{"sasyncd.service", "carpd.service"} {
				if text := read(t, "systemd", f); !strings.Contains(text, " "+u) && !strings.Contains(text, "="+u) {
					t.Errorf("%s is not ordered by %s", u, f)
				}
			}
		}
	}
	settings := func(unit string) string {
		_, text, _ := strings.Cut(read(t, "adopt", unit+".d", dropIn), "\n\n")
		return text
	}
	if settings("iked.service") != settings("openiked.service") {
		t.Error("iked.service and openiked.service differ")
	}
}

// TestDropInsParse has systemd read them.
func TestDropInsParse(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is needed: apt-get install systemd")
	}
	verify := func(name, text string) string {
		dir := t.TempDir()
		for file, content := range map[string]string{name: dropIns[name].stock,
			filepath.Join(name+".d", dropIn): text} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		// It fails for programs that are not installed here; only what it says
		// about the drop-in counts.
		out, _ := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, name)).CombinedOutput()
		var about []string
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, dropIn) {
				about = append(about, line)
			}
		}
		return strings.Join(about, "")
	}
	for name := range dropIns {
		text := read(t, "adopt", name+".d", dropIn)
		if out := verify(name, text); out != "" {
			t.Errorf("systemd does not understand the drop-in of %s:\n%s", name, out)
		}
		if verify(name, strings.Replace(text, "SuccessExitStatus", "SucessExitStatus", 1)) == "" {
			t.Errorf("%s: a misspelled key goes unnoticed", name)
		}
	}
}
