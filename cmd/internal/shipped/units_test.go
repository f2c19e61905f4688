package shipped

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
)

// unit returns the values of each key of a unit file.
func unit(t *testing.T, name string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for line := range strings.Lines(read(t, "systemd", name)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '[' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Errorf("%s: %q is not an assignment", name, line)
		}
		out[key] = append(out[key], value)
	}
	return out
}

// TestUnits checks what the programs depend on.
func TestUnits(t *testing.T) {
	for _, tt := range []struct {
		name, user, socket, state string
		caps                      string
	}{
		{"sasyncd", "sasyncd", conf.DefaultSasyncdSocket, conf.DefaultSasyncdState,
			"CAP_NET_ADMIN CAP_NET_BIND_SERVICE"},
		{"carpd", "carpd", conf.DefaultCarpdSocket, conf.DefaultCarpdState,
			"CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_NICE CAP_IPC_LOCK"},
	} {
		u := unit(t, tt.name+".service")
		for key, want := range map[string]string{
			"Type": "notify", "User": tt.user, "AmbientCapabilities": tt.caps, "CapabilityBoundingSet": tt.caps,
			"RuntimeDirectory": filepath.Base(filepath.Dir(tt.socket)), "StateDirectory": filepath.Base(tt.state),
			"NoNewPrivileges": "yes", "LimitCORE": "0", "ExecStart": "/usr/sbin/" + tt.name,
		} {
			if !slices.Equal(u[key], []string{want}) {
				t.Errorf("%s.service: %s is %q, want %q", tt.name, key, u[key], want)
			}
		}
		if len(u["WatchdogSec"]) == 0 {
			t.Errorf("%s.service has no watchdog", tt.name)
		}
		for _, code := range []int{daemon.ExitUsage, daemon.ExitPrivilege, daemon.ExitConfig} {
			if !slices.Contains(strings.Fields(strings.Join(u["RestartPreventExitStatus"], " ")), strconv.Itoa(code)) {
				t.Errorf("%s.service restarts after exit code %d, which would repeat itself", tt.name, code)
			}
		}
		if !strings.Contains(read(t, "sysusers.d", "sasyncd.conf"), "\nu "+tt.user+" ") {
			t.Errorf("nobody makes user %s", tt.user)
		}
	}
	// The two halves of sasyncd find each other.
	sock := unit(t, "sasyncd-privileged.socket")
	for key, want := range map[string]string{"ListenSequentialPacket": "/run/sasyncd-privileged.sock",
		"SocketUser": "sasyncd",
		"SocketMode": "0600", "Accept": "yes"} {
		if !slices.Equal(sock[key], []string{want}) {
			t.Errorf("sasyncd-privileged.socket: %s is %q, want %q", key, sock[key], want)
		}
	}
	priv := unit(t, "sasyncd-privileged@.service")
	if !slices.Equal(priv["ExecStart"], []string{"/usr/sbin/sasyncd privileged"}) || priv["User"] != nil ||
		!slices.Equal(priv["LimitCORE"], []string{"0"}) {
		t.Errorf("sasyncd-privileged@.service runs %q as %q", priv["ExecStart"], priv["User"])
	}
	if u := unit(t, "sasyncd.service"); !slices.Equal(u["Wants"], []string{"sasyncd-privileged.socket"}) ||
		!slices.Equal(u["Also"], []string{"sasyncd-privileged.socket sasyncd-guard.service"}) {
		t.Errorf("sasyncd.service wants %q and is enabled with %q", u["Wants"], u["Also"])
	}
	for verb, kill := range map[string]string{"notify": "mixed", "fence": "control-group"} {
		u := unit(t, "carp-"+verb+"@.service")
		if !slices.Equal(u["ExecStart"], []string{"/usr/bin/carpctl " + verb + " -- %i /etc/carpd/" + verb + "-%i"}) ||
			!slices.Equal(u["KillMode"], []string{kill}) ||
			!slices.Equal(u["RestartPreventExitStatus"], []string{strconv.Itoa(daemon.ExitUsage)}) {
			t.Errorf("carp-%s@.service runs %q", verb, u["ExecStart"])
		}
	}
	if g := unit(t, "sasyncd-guard.service"); !slices.Equal(g["ExecStart"], []string{"/usr/sbin/sasyncd guard-load"}) ||
		!strings.Contains(strings.Join(g["Before"], " "), "network-pre.target") {
		t.Errorf("sasyncd-guard.service runs %q before %q", g["ExecStart"], g["Before"])
	}
	c := unit(t, "carpd.service")
	if !slices.Equal(c["ExecStopPost"], []string{"/usr/sbin/carpd cleanup"}) {
		t.Errorf("after a kill of carpd nobody sets the fence: %q", c["ExecStopPost"])
	}
	if after := strings.Join(unit(t, "sasyncd.service")["After"], " "); !strings.Contains(after, "carpd.service") ||
		!strings.Contains(after, "strongswan.service") {
		t.Errorf("sasyncd starts before what flushes or fences: %q", after)
	}
}

// TestUnitsDoNotGiveUp: what is restarted after a failure is restarted for as long as
// that lasts. By default systemd gives up after five starts within ten seconds.
func TestUnitsDoNotGiveUp(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(deploy, "systemd", "*.service"))
	if err != nil || len(files) == 0 {
		t.Fatal("no units", err)
	}
	for _, f := range files {
		if u := unit(t, filepath.Base(f)); u["Restart"] != nil && !slices.Equal(u["StartLimitIntervalSec"],
			[]string{"0"}) {
			t.Errorf("%s is not started again after five failures: StartLimitIntervalSec=%q", filepath.Base(f),
				u["StartLimitIntervalSec"])
		}
	}
}

// TestExposure holds the units to the exposure that systemd computes, in tenths.
func TestExposure(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is needed: apt-get install systemd")
	}
	for name, limit := range map[string]int{"sasyncd.service": 20, "carpd.service": 25, "carpd-fence.service": 20,
		"sasyncd-guard.service":       20,
		"sasyncd-privileged@.service": 25} {
		out, err := exec.Command(analyze, "security", "--no-pager", "--offline=true",
			"--threshold="+strconv.Itoa(limit), filepath.Join(deploy, "systemd", name)).CombinedOutput()
		if err != nil {
			t.Errorf("%s is exposed more than %d.%d (%v):\n%s", name, limit/10, limit%10, err, out)
		}
	}
}

// TestSettings checks the form of the other files, each line of which the
// system reads by itself.
func TestSettings(t *testing.T) {
	for line := range strings.Lines(read(t, "sysctl.d", "60-sasyncd.conf")) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if key, value, ok := strings.Cut(line, " = "); !ok || !strings.HasPrefix(key, "net.") || value == "" {
			t.Errorf("sysctl.d: %q", line)
		}
	}
	modules := strings.Fields(strings.Join(slices.DeleteFunc(strings.Split(read(t, "modules-load.d", "sasyncd.conf"),
		"\n"),
		func(l string) bool { return strings.HasPrefix(l, "#") }), "\n"))
	for _, need := range []string{"xfrm_user", "esp4", "esp6", "crypto-rfc4106", "crypto-seqiv", "crypto-authenc",
		"crypto-echainiv", "crypto-rfc7539esp"} {
		if !slices.Contains(modules, need) {
			t.Errorf("modules-load.d lacks %s", need)
		}
	}
}
