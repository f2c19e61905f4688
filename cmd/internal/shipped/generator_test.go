package shipped

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// generate runs the generator on a machine with these unit files, given by name and
// what they are: "file", a link's target, or an enabled unit as "x.wants/UNIT". It
// returns what it made.
func generate(t *testing.T, units map[string]string) (dir, made string) {
	t.Helper()
	dir, made = t.TempDir(), t.TempDir()
	for name, what := range units {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		err := os.WriteFile(path, []byte("[Service]\nExecStart=/bin/true\n"), 0o644)
		if what != "file" {
			err = errOf(os.Remove(path), os.Symlink(what, path))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if out := runGenerator(t, dir, made, made, made); out != "" {
		t.Fatalf("the generator: %s", out)
	}
	return dir, made
}

// runGenerator runs it with the unit files of a directory, and returns what it printed.
func runGenerator(t *testing.T, dir string, args ...string) string {
	t.Helper()
	// As `make install` does.
	script := filepath.Join(t.TempDir(), "generator")
	text := strings.ReplaceAll(read(t, "generators", "sasyncd-generator"), "/usr/lib/sasyncd/units",
		filepath.Join(deploy, "adopt"))
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_DIRS="+filepath.Join(dir, "none")+" "+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the generator: %v\n%s", err, out)
	}
	return string(out)
}

// TestGeneratorShows: what would be changed can be read before sasyncd is enabled, and
// then it is that.
func TestGeneratorShows(t *testing.T) {
	units := map[string]string{"sasyncd.service": "file", "strongswan-starter.service": "file",
		"ipsec.service": "strongswan-starter.service", "openiked.service": "file"}
	dir, made := generate(t, units)
	before := runGenerator(t, dir, "show")
	if files, _ := filepath.Glob(filepath.Join(made, "*")); len(files) > 0 {
		t.Errorf("without sasyncd it made %q", files)
	}
	want := ""
	for _, u := range []string{"openiked.service", "strongswan-starter.service"} {
		want += "# /run/systemd/generator/" + u + ".d/" + dropIn + ", which changes " + filepath.Join(dir, u) + "\n" +
			read(t, "adopt", u+".d", dropIn) + "\n"
	}
	if before != want {
		t.Errorf("it shows\n%s\nwant\n%s", before, want)
	}
	units["multi-user.target.wants/sasyncd.service"] = "../sasyncd.service"
	_, made = generate(t, units)
	for _, f := range below(t, made) {
		if !strings.Contains(before, "/run/systemd/generator/"+f+",") {
			t.Errorf("it did not show %s", f)
		}
	}
}

func errOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestIKEUnitsChangeOnlyBesideSasyncd: where sasyncd is not enabled the units of IKE
// daemons stay as they were packaged, and a unit that bears another's name is not
// taken for that one.
func TestIKEUnitsChangeOnlyBesideSasyncd(t *testing.T) {
	const on = "multi-user.target.wants/sasyncd.service"
	for _, tc := range []struct {
		name  string
		units map[string]string
		want  string
	}{
		{"only installed", map[string]string{"sasyncd.service": "file", "openiked.service": "file",
			"ipsec.service": "file"}, ""},
		{"enabled", map[string]string{"sasyncd.service": "file", on: "../sasyncd.service",
			"openiked.service": "file", "ipsec.service": "file", "strongswan.service": "file"},
			"ipsec.service openiked.service strongswan.service"},
		{"removed, but its link", map[string]string{on: "../sasyncd.service", "ipsec.service": "file"}, ""},
		{"masked", map[string]string{"sasyncd.service": "/dev/null", on: "../sasyncd.service", "ipsec.service": "file"},
			""},
		{"the older strongSwan of Debian", map[string]string{"sasyncd.service": "file", on: "../sasyncd.service",
			"strongswan-starter.service": "file", "ipsec.service": "strongswan-starter.service"},
			"strongswan-starter.service"},
		{"enabled by who requires it", map[string]string{"sasyncd.service": "file",
			"gateway.target.requires/sasyncd.service": "../sasyncd.service",
			"openiked.service":                        "file"}, "openiked.service"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, made := generate(t, tc.units)
			files, err := filepath.Glob(filepath.Join(made, "*", "*"))
			if err != nil {
				t.Fatal(err)
			}
			var units []string
			for _, f := range files {
				unit, ok := strings.CutSuffix(filepath.Base(filepath.Dir(f)), ".d")
				if !ok || filepath.Base(f) != dropIn {
					t.Errorf("made %s", f)
				}
				units = append(units, unit)
			}
			slices.Sort(units)
			if got := strings.Join(units, " "); got != tc.want {
				t.Errorf("changed are %q, want %q", got, tc.want)
			}
		})
	}
}

// TestStarterOfStrongSwanStarts: with Debian's strongswan-starter, which is called
// ipsec.service too, nothing of libreswan is to be run.
func TestStarterOfStrongSwanStarts(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is needed: apt-get install systemd")
	}
	dir, made := generate(t, map[string]string{"sasyncd.service": "file",
		"multi-user.target.wants/sasyncd.service": "../sasyncd.service",
		"strongswan-starter.service":              "file", "ipsec.service": "strongswan-starter.service"})
	// Found beside the unit, as systemd finds them in its own directories.
	if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, "strongswan-starter.service"),
		filepath.Join(dir, "ipsec.service")).CombinedOutput()
	if err != nil || strings.Contains(string(out), "50-sasyncd.conf") || strings.Contains(string(out), "ipsec") {
		t.Errorf("systemd says: %v\n%s", err, out)
	}
}
