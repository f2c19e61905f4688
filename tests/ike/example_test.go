package ike

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sasyncd/tests/harness/lab"
)

// example reads one of the files that the documentation shows, with the lab's
// addresses in place of its own.
func example(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy", "examples"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(
		"203.0.113.1", lab.VIPOut.String(), "2001:db8:1::1", lab.VIPOut6.String(),
		"198.51.100.1", lab.RGWOut.String(), "2001:db8:2::1", lab.RGWOut6.String(),
	).Replace(string(b))
}

// unitSettings are the [Service] settings of the drop-in that is shipped for a
// unit, as `systemctl show` prints them; of a setting that is given several
// times the last one.
func unitSettings(t *testing.T, unit string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "adopt", unit+".d", "50-sasyncd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	out := "LoadState=loaded\nActiveState=active\n"
	_, service, _ := strings.Cut(string(b), "[Service]\n")
	for line := range strings.Lines(service) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && v != "" && !strings.HasPrefix(line, "#") {
			out += k + "=" + strings.Replace(v, "SIGKILL", "9", 1) + "\n"
		}
	}
	return out
}
