package shipped

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// run runs an example as carpctl notify does, with further lines of configuration, and
// returns its output and exit status. The stand-in of carpctl says the state of the file.
func (c *cloud) run(extra string, args ...string) (out string, code int) {
	c.t.Helper()
	dir := c.t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			c.t.Fatal(err)
		}
		return p
	}
	write("without.json", "{\"tags\":\n{\"say\":\"\\\"no\\\"\"}}\n", 0o600)
	write("with.json", "{\"tags\":{\"say\":\"yes\"}}\n", 0o600)
	write("token", bearer+"\n", 0o600)
	state := write("state", "group ipsec (outside, inside): MASTER for 3s (master timed out), term 7\n", 0o600)
	conf := strings.NewReplacer("URL", c.url, "DIR", dir).Replace(clouds[c.name].conf + extra)
	if c.onAsk != nil { // the mastership is lost while a request is under way
		c.onAsk = func() { write("state", "group ipsec (outside, inside): BACKUP for 0s (x), term 7\n", 0o600) }
	}
	cmd := exec.CommandContext(c.t.Context(), "sh", append([]string{filepath.Join(deploy, "examples", "cloud", c.name,
		"notify-ipsec")}, args...)...)
	cmd.Env = append(os.Environ(), "CONF="+write("cloud.conf", conf, 0o600), "TMPDIR="+dir, "NO_PROXY=*", "no_proxy=*",
		"PATH="+filepath.Dir(write("sleep", "#!/bin/sh\n", 0o700))+":"+os.Getenv("PATH"), // pauses are told, not made
		"CARPCTL="+write("carpctl", "#!/bin/sh\n[ \"$1\" = show ] && cat "+state+"\n", 0o700))
	b, err := cmd.CombinedOutput()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		code = ee.ExitCode()
	} else if err != nil {
		c.t.Fatal(err)
	}
	for _, secret := range []string{accessKey, accessSecret, session, bearer, "imds-token"} {
		if strings.Contains(string(b), secret) {
			c.t.Errorf("a secret is printed:\n%s", b)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "tmp.*")); len(left) > 0 {
		c.t.Errorf("files with secrets are left: %v", left)
	}
	return string(b), code
}

var master = []string{"GROUP", "ipsec", "MASTER"}

// want fails the test unless the changes that the cloud accepted are those of its example.
func (c *cloud) want() {
	c.t.Helper()
	want := make([]string, 0, len(clouds[c.name].want))
	for _, w := range clouds[c.name].want {
		want = append(want, strings.ReplaceAll(w, "URL", c.url))
	}
	if !slices.Equal(c.changes, want) {
		c.t.Errorf("changes:\n%s\nwant:\n%s", strings.Join(c.changes, "\n"), strings.Join(want, "\n"))
	}
}

// eachCloud runs a test for each example.
func eachCloud(t *testing.T, f func(t *testing.T, c *cloud)) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatalf("the examples need curl: %v", err)
	}
	for name := range clouds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newCloud(t, name))
		})
	}
}

// A new MASTER asks for its addresses and routes, and waits until that is done. Nobody
// else asks for anything.
func TestCloudMaster(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		for _, state := range []string{"BACKUP", "FAULT", "STOP"} {
			if out, code := c.run("", "GROUP", "ipsec", state); code != 0 || out != "" || c.asked != 0 {
				t.Errorf("%s: exit status %d, %d requests, output %q", state, code, c.asked, out)
			}
		}
		out, code := c.run("", master...)
		if code != 0 {
			t.Errorf("exit status %d: %s", code, out)
		}
		c.want()
	})
}

// A dry run says what would be asked for and asks nobody, for credentials neither.
func TestCloudDryRun(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		out, code := c.run("", append([]string{"--dry-run"}, master...)...)
		if code != 0 || c.asked != 0 {
			t.Errorf("exit status %d, %d requests", code, c.asked)
		}
		for _, w := range clouds[c.name].want {
			method, rest, _ := strings.Cut(w, " ")
			path, _, _ := strings.Cut(rest, " ")
			if !strings.Contains(out, method+" "+c.url+path) {
				t.Errorf("%s %s is not printed:\n%s", method, path, out)
			}
		}
	})
}

// What passes is tried again, and told; what does not pass is given up at once; and what
// takes too long ends in time, so that carpctl notify begins anew.
func TestCloudRefuses(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		c.refuse = []int{http.StatusTooManyRequests, http.StatusConflict, http.StatusServiceUnavailable}
		out, code := c.run("", master...)
		if code != 0 || strings.Count(out, "again in ") < 3 {
			t.Errorf("exit status %d: %s", code, out)
		}
		for _, status := range []string{"429", "409", "503"} {
			if !strings.Contains(out, "status "+status) {
				t.Errorf("%s is not told: %s", status, out)
			}
		}
		c.want()

		c.changes, c.refused, c.refuse = nil, 0, []int{http.StatusForbidden, http.StatusForbidden}
		if out, code := c.run("", master...); code != 1 || c.refused != 1 || !strings.Contains(out, "status 403, ") {
			t.Errorf("exit status %d after %d refusals: %s", code, c.refused, out)
		}

		c.refuse = slices.Repeat([]int{http.StatusServiceUnavailable}, 100)
		if out, code := c.run("LIMIT=2\n", master...); code != 1 || !strings.Contains(out, "no time is left") {
			t.Errorf("exit status %d: %s", code, out)
		}
	})
}

// An operation that fails, or does not end, is told by the exit status.
func TestCloudOperation(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		if c.name == "aws" {
			return // its answer is the end
		}
		c.fails = true
		if out, code := c.run("", master...); code != 1 || len(c.changes) != 1 ||
			!regexp.MustCompile("Conflict|QUOTA_EXCEEDED|action_failed").MatchString(out) {
			t.Errorf("exit status %d after %d changes: %s", code, len(c.changes), out)
		}
		c.fails, c.stuck, c.changes = false, true, nil
		if out, code := c.run("LIMIT=3\n", master...); code != 1 || !strings.Contains(out, "no time is left") {
			t.Errorf("exit status %d: %s", code, out)
		}
	})
}

// A gateway that is no longer MASTER does not go on asking: its requests would undo
// those of the one that is.
func TestCloudLost(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		c.refuse = slices.Repeat([]int{http.StatusServiceUnavailable}, 100)
		c.onAsk = func() {}
		if out, code := c.run("", master...); code != 0 || c.refused != 1 || !strings.Contains(out, "no longer MASTER") {
			t.Errorf("exit status %d after %d refusals: %s", code, c.refused, out)
		}
	})
}

// A service that cannot be reached is told as such.
func TestCloudUnreachable(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		c.url = "http://127.0.0.1:1"
		if out, code := c.run("LIMIT=1\n", master...); code != 1 || !strings.Contains(out, "status 000, ") {
			t.Errorf("exit status %d: %s", code, out)
		}
	})
}

// The four have a part in common, which is the same in each.
func TestCloudCommon(t *testing.T) {
	var first string
	for name := range clouds {
		_, rest, ok := strings.Cut(read(t, "examples", "cloud", name, "notify-ipsec"), "\n# --- the same in all")
		common, _, end := strings.Cut(rest, "\n# --- until here")
		if !ok || !end || first != "" && common != first {
			t.Errorf("%s has another common part", name)
		}
		first = common
	}
}
