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

// TestInstall: everything that users need is installed, under any prefix, and
// units start what is there.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	dest := filepath.Join(dir, "dest")
	cmd := exec.Command("make", "-s", "install", "DESTDIR="+dest, "PREFIX=/opt/x", "BIN="+filepath.Join(dir, "bin"))
	cmd.Dir = filepath.Dir(deploy)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	var have []string
	err := filepath.WalkDir(dest, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			have = append(have, strings.TrimPrefix(path, dest+"/opt/x/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"sbin/sasyncd", "sbin/carpd", "bin/sasyncctl", "bin/carpctl", "share/doc/sasyncd/README.md",
		"share/doc/sasyncd/operations.md"}
	for from, to := range map[string]string{"systemd": "lib/systemd/system", "adopt": "lib/sasyncd/units",
		"generators": "lib/systemd/system-generators", "sysusers.d": "lib/sysusers.d", "sysctl.d": "lib/sysctl.d",
		"modules-load.d": "lib/modules-load.d", "networkd.conf.d": "lib/systemd/networkd.conf.d",
		"examples": "share/doc/sasyncd/examples", "prometheus": "share/doc/sasyncd/prometheus",
		"grafana": "share/doc/sasyncd/grafana", "nftables": "share/doc/sasyncd/nftables"} {
		root := filepath.Join(deploy, from)
		if err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				want = append(want, to+strings.TrimPrefix(path, root))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	pages, _ := filepath.Glob(filepath.Join(deploy, "man", "*"))
	for _, p := range pages {
		want = append(want, "share/man/man"+p[len(p)-1:]+"/"+filepath.Base(p))
	}
	for _, f := range want {
		if !slices.Contains(have, f) {
			t.Errorf("%s is not installed", f)
		}
	}
	for _, f := range have {
		if strings.HasPrefix(f, "/") {
			t.Errorf("%s lies outside the prefix", f)
		}
		if !strings.HasSuffix(f, ".service") && !strings.HasPrefix(f, "lib/sasyncd/units/") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dest, "opt/x", f))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^Exec\w+=.*?(/\S*bin/(?:carpd|sasyncd))\b`).FindAllStringSubmatch(string(b), -1) {
			if _, err := os.Stat(dest + m[1]); err != nil {
				t.Errorf("%s starts %s, which is not there", f, m[1])
			}
		}
	}
}

// TestTemplates: the files that a package puts into /etc say nothing until
// their statements are uncommented, and those are right.
func TestTemplates(t *testing.T) {
	for name, parse := range map[string]func(string) error{
		"sasyncd.conf": func(s string) error { _, err := conf.ParseSasyncd("template", []byte(s)); return err },
		"carpd.conf":   func(s string) error { _, err := conf.ParseCarpd("template", []byte(s)); return err },
	} {
		text := read(t, "etc", name)
		for line := range strings.Lines(text) {
			if line != "\n" && line[0] != '#' {
				t.Errorf("%s has the statement %q", name, line)
			}
		}
		if err := parse(regexp.MustCompile(`(?m)^#([a-z])`).ReplaceAllString(text, "$1")); err != nil {
			t.Errorf("%s, uncommented: %v", name, err)
		}
	}
}

// TestMaintainerScripts plays installation, upgrade and removal with programs
// that only say how they were called.
func TestMaintainerScripts(t *testing.T) {
	for _, tt := range []struct {
		name, script, args, active string
		fail                       string // program that fails
		want                       string
	}{
		{"first installation starts nothing", "postinst", "configure ", "", "",
			"systemd-sysusers sasyncd.conf; chown carpd:carpd /etc/carpd.conf; systemctl daemon-reload; " +
				"deb-systemd-invoke restart systemd-modules-load.service systemd-sysctl.service"},
		{"upgrade of a gateway", "postinst", "configure 0.8", "sasyncd carpd", "",
			"systemd-sysusers sasyncd.conf; systemctl daemon-reload; deb-systemd-invoke restart sasyncd.service; " +
				"sasyncctl check; " +
				"carpctl freeze 15; deb-systemd-invoke restart carpd.service"},
		{"upgrade without running daemons", "postinst", "configure 0.8", "", "",
			"systemd-sysusers sasyncd.conf; systemctl daemon-reload"},
		{"upgrade with a carpd that cannot be frozen", "postinst", "configure 0.8", "carpd", "carpctl",
			"systemd-sysusers sasyncd.conf; systemctl daemon-reload; carpctl freeze 15"},
		{"before an upgrade", "prerm", "upgrade 0.9", "sasyncd carpd", "", ""},
		{"removal", "prerm", "remove", "sasyncd carpd", "",
			"deb-systemd-invoke stop sasyncd.service sasyncd-privileged.socket; deb-systemd-invoke stop " +
				"carpd.service; sasyncd guard-off; sasyncd guard-remove"},
		{"after an upgrade", "postrm", "upgrade 0.9", "", "", "systemctl daemon-reload"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			log := filepath.Join(dir, "log")
			for _, p := range []string{"systemd-sysusers", "chown", "systemctl", "deb-systemd-invoke",
				"sasyncctl", "sasyncd", "carpctl", "deb-systemd-helper", "sleep", "rm"} {
				stub := "#!/bin/sh\necho \"$(basename \"$0\") $*\" >>" + log + "\n"
				switch p {
				case "systemctl":
					stub = "#!/bin/sh\nif [ \"$1\" = is-active ]; then case ' " + tt.active +
						" ' in *\" ${3%.service} \"*) exit 0;; esac; exit 3; fi\n" + stub[len("#!/bin/sh\n"):]
				case tt.fail:
					stub += "exit 1\n"
				}
				if err := os.WriteFile(filepath.Join(dir, p), []byte(stub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			script := filepath.Join(dir, "script")
			text := strings.ReplaceAll(read(t, "deb", tt.script), "/run/systemd/system", dir)
			if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(script, strings.SplitN(tt.args, " ", 2)...)
			cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			did, _ := os.ReadFile(log)
			if got := strings.Join(strings.Split(strings.TrimSpace(string(did)), "\n"), "; "); got != tt.want {
				t.Errorf("it did\n%s\nwant\n%s", got, tt.want)
			}
			for _, word := range []string{"flush", "kill", "ip xfrm"} {
				if strings.Contains(read(t, "deb", tt.script), word+" ") {
					t.Errorf("the script says %q", word)
				}
			}
		})
	}
}

// TestPackage: the build finds what it reads.
func TestPackage(t *testing.T) {
	version := regexp.MustCompile(`(?m)^## (\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)$`)
	b, err := os.ReadFile("../../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	if !version.Match(b) {
		t.Error("CHANGELOG.md has no entry of a release, from which packages get their version")
	}
	for _, f := range []string{"Package", "Version", "Architecture", "Maintainer", "Description", "Depends"} {
		if !strings.Contains(read(t, "deb", "control"), f+": ") {
			t.Errorf("control lacks %s", f)
		}
	}
}
