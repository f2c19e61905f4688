package shipped

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sasyncd/cmd/internal/conf"
)

// TestOpenRC: each script is one for /bin/sh with the name of what it starts, a daemon
// is not started with a configuration that is wrong, and the fence comes before the
// network.
func TestOpenRC(t *testing.T) {
	for _, name := range below(t, filepath.Join(deploy, "openrc")) {
		text := read(t, "openrc", name)
		if !strings.HasPrefix(text, "#!/sbin/openrc-run\n") || !strings.Contains(text, "\ndescription=\"") {
			t.Errorf("%s is no script of OpenRC", name)
		}
		dir := t.TempDir()
		for _, p := range []string{"carpd", "sasyncd"} {
			stub := "#!/bin/sh\necho " + p + " \"$@\"; exit 78\n"
			if err := os.WriteFile(filepath.Join(dir, p), []byte(stub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		run := func(call string) (string, bool) {
			script := "set -u; RC_SVCNAME=" + name + "; checkpath() { :; }; ebegin() { :; }; eend() { return $1; }\n" +
				"need() { echo need \"$@\"; }; use() { :; }; after() { echo after \"$@\"; }; " +
				"before() { echo before \"$@\"; }; keyword() { :; }\n" +
				strings.ReplaceAll(text, "/usr/sbin/", dir+"/") + "\n" + call
			out, err := exec.Command("sh", "-c", script).CombinedOutput()
			return string(out), err == nil
		}
		order, ok := run("depend")
		if !ok {
			t.Errorf("%s: depend: %s", name, order)
		}
		switch name {
		case "carpd", "sasyncd":
			if out, ok := run("start_pre"); ok || strings.TrimSpace(out) != name+" -n" {
				t.Errorf("%s starts whatever `%s -n` says: %q", name, name, out)
			}
			if !strings.Contains(order, "need net") {
				t.Errorf("%s: %q", name, order)
			}
			for _, v := range []string{"supervisor=supervise-daemon", "command=/usr/sbin/" + name, "respawn_max=0"} {
				if !strings.Contains(text, "\n"+v+"\n") {
					t.Errorf("%s lacks %s", name, v)
				}
			}
		default:
			if !strings.Contains(order, "before net\n") {
				t.Errorf("%s: %q", name, order)
			}
		}
	}
	if text := read(t, "openrc", "carpd"); !strings.Contains(text, "need net carpd-fence\n") ||
		!regexp.MustCompile(`stop_post\(\) \{\n\t/usr/sbin/carpd cleanup\n`).MatchString(text) {
		t.Error("carpd runs without the fence, or leaves without it")
	}
}

// section returns the values of each key of a section of a unit or quadlet.
func section(text, name string) map[string][]string {
	out := map[string][]string{}
	in := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = strings.Trim(line, "[]")
		} else if key, value, ok := strings.Cut(line, "="); ok && line[0] != '#' && in == name {
			out[key] = append(out[key], value)
		}
	}
	return out
}

// TestQuadlets: in a container a daemon has the rights of its unit and no more, a user
// that the image has, and the files that it reads and writes.
func TestQuadlets(t *testing.T) {
	image := read(t, "container", "build")
	for name, mounts := range map[string][]string{
		"carpd": {"/etc/carpd.conf", filepath.Dir(conf.DefaultCarpdSocket), conf.DefaultCarpdState},
		"sasyncd": {"/etc/sasyncd.conf", filepath.Dir(conf.DefaultSasyncdSocket), conf.DefaultSasyncdState,
			filepath.Dir(conf.DefaultCarpdSocket)},
	} {
		text := read(t, "container", name+".container")
		c, s := section(text, "Container"), section(text, "Service")
		u := unit(t, name+".service")
		for key, want := range map[string][]string{"AddCapability": u["CapabilityBoundingSet"],
			"DropCapability": {"all"}, "Network": {"host"}, "ReadOnly": {"true"}, "NoNewPrivileges": {"true"},
			"Notify": {"true"}, "Exec": u["ExecStart"]} {
			if !slices.Equal(c[key], want) {
				t.Errorf("%s.container: %s is %q, want %q", name, key, c[key], want)
			}
		}
		for _, key := range []string{"Restart", "RestartSec", "RestartPreventExitStatus", "TimeoutStopSec"} {
			if !slices.Equal(s[key], u[key]) {
				t.Errorf("%s.container: %s is %q, in the unit %q", name, key, s[key], u[key])
			}
		}
		if len(c["User"]) != 1 || !strings.Contains(image, name+":x:"+c["User"][0]+":"+c["User"][0]+":") {
			t.Errorf("%s.container: the image has no user %q", name, c["User"])
		}
		for _, m := range mounts {
			if !slices.ContainsFunc(c["Volume"], func(v string) bool {
				from, to, _ := strings.Cut(strings.TrimSuffix(v, ":ro"), ":")
				return from == m && to == m
			}) {
				t.Errorf("%s.container does not see %s: %q", name, m, c["Volume"])
			}
		}
	}
	if s := section(read(t, "container", "carpd.container"), "Service"); len(s["ExecStopPost"]) != 1 ||
		!strings.HasSuffix(s["ExecStopPost"][0], " /usr/sbin/carpd cleanup") {
		t.Errorf("after a kill of carpd nobody sets the fence: %q", s["ExecStopPost"])
	}
}
