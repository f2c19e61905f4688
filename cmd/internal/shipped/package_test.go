package shipped

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sasyncd/carp/packet"
	"sasyncd/cmd/internal/conf"
)

// places are where `make install` puts the files of deploy, by their directory or name,
// below the prefix. "" is nowhere: they are for who makes packages.
var places = map[string]string{
	"systemd": "lib/systemd/system", "adopt": "lib/sasyncd/units", "generators": "lib/systemd/system-generators",
	"sysusers.d": "lib/sysusers.d", "networkd.conf.d": "lib/systemd/networkd.conf.d", "openrc": "/etc/init.d",
	"sysctl.d": "lib/sysctl.d", "modules-load.d": "lib/modules-load.d", "firewalld": "lib/firewalld",
	"examples": "share/doc/sasyncd/examples", "prometheus": "share/doc/sasyncd/prometheus",
	"grafana": "share/doc/sasyncd/grafana", "nftables": "share/doc/sasyncd/nftables",
	"etc": "share/doc/sasyncd/etc", "man": "share/man/man", "completions/bash": "share/bash-completion/completions",
	"completions/zsh": "share/zsh/site-functions", "completions/fish": "share/fish/vendor_completions.d",
	"packages": "", "packages/restart": "lib/sasyncd/restart", "container": "", "deploy.go": "",
}

// inits are the directories that only one kind of `make install` has.
var inits = map[string][]string{"systemd": {"systemd", "adopt", "generators", "sysusers.d", "networkd.conf.d"},
	"openrc": {"openrc"}}

// placed returns where a file of deploy is installed, "" for nowhere. A file that no
// entry of places is about fails the test.
func placed(t *testing.T, init, rel string) string {
	t.Helper()
	top := strings.Split(rel, "/")[0]
	for other, dirs := range inits {
		if other != init && slices.Contains(dirs, top) {
			return ""
		}
	}
	for from := rel; from != "."; from = filepath.Dir(from) {
		to, ok := places[from]
		switch {
		case !ok:
			continue
		case to == "" || from == rel:
			return to
		case from == "man":
			return to + rel[len(rel)-1:] + "/" + filepath.Base(rel)
		}
		return to + strings.TrimPrefix(rel, from)
	}
	t.Errorf("deploy/%s: nothing says whether it is installed", rel)
	return ""
}

// TestInstall: everything that users need is installed, under any prefix, for each kind
// of init, and what is started is there.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	for i, tt := range []struct{ init, sbin string }{{"systemd", "sbin"}, {"openrc", "bin"}} {
		dest := filepath.Join(dir, tt.init)
		args := []string{"-s", "install", "DESTDIR=" + dest, "PREFIX=/opt/x", "SBINDIR=/opt/x/" + tt.sbin,
			"INIT=" + tt.init, "BIN=" + filepath.Join(dir, "bin")}
		if i > 0 {
			args = append([]string{"-o", "build"}, args...) // they are there
		}
		cmd := exec.Command("make", args...)
		cmd.Dir = filepath.Dir(deploy)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make install: %v\n%s", err, out)
		}
		have := below(t, dest)
		want := []string{tt.sbin + "/sasyncd", tt.sbin + "/carpd", "bin/sasyncctl", "bin/carpctl",
			"share/doc/sasyncd/README.md", "share/doc/sasyncd/operations.md"}
		for _, f := range below(t, deploy) {
			if to := placed(t, tt.init, f); to != "" {
				want = append(want, to)
			}
		}
		for i, f := range want {
			if f[0] != '/' {
				want[i] = "opt/x/" + f
			} else {
				want[i] = f[1:]
			}
			if !slices.Contains(have, want[i]) {
				t.Errorf("%s: %s is not installed", tt.init, f)
			}
		}
		for _, f := range have {
			if !slices.Contains(want, f) && !strings.HasPrefix(f, "opt/x/share/doc/sasyncd/") {
				t.Errorf("%s: %s is installed, and nothing says why", tt.init, f)
			}
			if !strings.Contains(f, "/systemd/") && !strings.Contains(f, "/sasyncd/units/") &&
				!strings.HasPrefix(f, "etc/init.d/") {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dest, f))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`/\S*bin/(?:carpd|sasyncd|carpctl|sasyncctl)\b`).FindAllString(string(b),
				-1) {
				if _, err := os.Stat(dest + m); err != nil {
					t.Errorf("%s starts %s, which is not there", f, m)
				}
			}
		}
	}
}

// below lists the files below a directory, without its name.
func below(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
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

// TestPackage: the build finds what it reads, and leaves out nothing that a format has.
func TestPackage(t *testing.T) {
	version := regexp.MustCompile(`(?m)^## (\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)$`)
	b, err := os.ReadFile("../../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	if !version.Match(b) {
		t.Error("CHANGELOG.md has no entry of a release, from which packages get their version")
	}
	text := read(t, "packages", "nfpm.yaml")
	var named []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:- )?(?:src|\w+install|\w+remove|\w+upgrade): (\S+)$`).
		FindAllStringSubmatch(text, -1) {
		named = append(named, m[1])
		if strings.HasPrefix(m[1], "${STAGE}") {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(deploy), m[1])); err != nil {
			t.Errorf("nfpm.yaml names %s: %v", m[1], err)
		}
	}
	if !slices.Contains(named, "${STAGE}") {
		t.Error("nfpm.yaml does not pack what `make install` places")
	}
	for _, f := range below(t, filepath.Join(deploy, "packages")) {
		if strings.Contains(f, "/") && f != "deb/lintian-overrides" && !slices.Contains(named, "deploy/packages/"+f) {
			t.Errorf("nfpm.yaml does not use %s", f)
		}
	}
	for _, f := range below(t, filepath.Join(deploy, "etc")) {
		entry := regexp.MustCompile(`src: deploy/etc/` + f + `\n +dst: /etc/` + f +
			`\n +type: config\|noreplace\n +file_info: \{mode: 0600\}\n`)
		if !entry.MatchString(text) {
			t.Errorf("/etc/%s is no configuration file with mode 0600 in nfpm.yaml", f)
		}
	}
}

// TestServicesOfFirewalld: they open what the daemons use by default.
func TestServicesOfFirewalld(t *testing.T) {
	type opened struct {
		Protocol string `xml:"protocol,attr"`
		Port     string `xml:"port,attr"`
		Value    string `xml:"value,attr"`
	}
	// carp/track keeps its port for itself; the rules for nft have it too.
	bfd := regexp.MustCompile(`(?m)^.*bfdPort += (\d+)$`).FindStringSubmatch(read(t, "..", "carp", "track", "bfd.go"))
	if bfd == nil || !strings.Contains(read(t, "nftables", "sasyncd.nft"), "udp dport "+bfd[1]) {
		t.Fatalf("the port of BFD is %q", bfd)
	}
	want := map[string][]opened{
		"sasyncd.xml":   {{Protocol: "tcp", Port: strconv.Itoa(int(conf.DefaultSyncPort))}},
		"carpd.xml":     {{Value: strconv.Itoa(packet.Protocol)}},
		"carpd-bfd.xml": {{Protocol: "udp", Port: bfd[1]}},
	}
	got := map[string][]opened{}
	for _, f := range below(t, filepath.Join(deploy, "firewalld", "services")) {
		var s struct {
			XMLName   xml.Name `xml:"service"`
			Short     string   `xml:"short"`
			Ports     []opened `xml:"port"`
			Protocols []opened `xml:"protocol"`
		}
		if err := xml.Unmarshal([]byte(read(t, "firewalld", "services", f)), &s); err != nil || s.Short == "" {
			t.Errorf("%s: %v", f, err)
		}
		got[f] = append(s.Ports, s.Protocols...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
