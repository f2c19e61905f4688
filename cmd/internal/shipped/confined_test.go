package shipped

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// output collects what a daemon prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for begun := time.Now(); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

// TestDaemonsWorkRestricted: the real programs, built as they are shipped, keep
// themselves to their files and go on to serve, write their state and reload a
// configuration that an editor has replaced. It takes root, for a network of
// its own, and what it shows of landlock(7) a kernel that has it.
func TestDaemonsWorkRestricted(t *testing.T) {
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	want := "files are restricted"
	if errno != 0 {
		want = "files are not restricted"
		t.Logf("this kernel has no landlock (%v): shown is that the daemons go on without", errno)
	}
	if os.Geteuid() != 0 {
		t.Log("not root: the daemons are not started here; the drills do, where they are root")
		return
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "./cmd/sasyncd", "./cmd/carpd")
	build.Dir = "../../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	put := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		next := path + ".new"
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil { // as editors do
			t.Fatal(err)
		}
		return path
	}
	put("keys/one", "0x"+strings.Repeat("3a", 32)+"\n")
	confs := map[string]string{
		"sasyncd": fmt.Sprintf("mode slave\npeer 192.0.2.2\nsharedkey file %q\ncontrol none\nlisten on 127.0.0.1 "+
			"port 5500\n", dir+"/keys/one"),
		"carpd": "vrrp one { carpdev lo; vrid 1; address 192.0.2.1/32; priority 100 }\n",
	}
	for name, text := range confs {
		t.Run(name, func(t *testing.T) {
			socket := dir + "/run-" + name + "/socket"
			text += fmt.Sprintf("socket %q\nstatedir %q\n", socket, dir+"/state-"+name)
			conf := put("etc-"+name+"/"+name+".conf", text)
			var out output
			cmd := exec.Command(filepath.Join(dir, name), "-dc", conf)
			cmd.Stdout, cmd.Stderr = &out, &out
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := false
			defer func() {
				if !ended {
					cmd.Process.Kill()
					cmd.Wait()
				}
				if t.Failed() {
					t.Logf("it printed\n%s", &out)
				}
			}()
			await(t, name+" to be ready", func() bool { return strings.Contains(out.String(), "ready") })
			await(t, "its socket", func() bool { _, err := os.Stat(socket); return err == nil })
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s does not say %q", name, want)
			}
			// A mistake is seen, so the file was read; then one that is right.
			put("etc-"+name+"/"+name+".conf", text+"nonsense\n")
			cmd.Process.Signal(syscall.SIGHUP)
			await(t, "the mistake to be found", func() bool { return strings.Contains(out.String(), "nonsense") })
			put("etc-"+name+"/"+name+".conf", strings.Replace(strings.Replace(text, "192.0.2.2", "192.0.2.3", 1),
				"priority 100", "priority 90", 1))
			before := strings.Count(out.String(), "nonsense")
			cmd.Process.Signal(syscall.SIGHUP)
			await(t, "the reload", func() bool { return strings.Contains(out.String(), "reloaded") })
			if strings.Count(out.String(), "nonsense") != before {
				t.Error("the file that was replaced is not what was read")
			}
			if left, err := os.ReadDir(dir + "/state-" + name); err != nil || len(left) == 0 {
				t.Errorf("nothing is in its state directory: %v", err)
			}
			cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s ended with %v", name, err)
			}
			ended = true
			if _, err := os.Stat(socket); err == nil {
				t.Error("its socket is left behind")
			}
			if strings.Contains(out.String(), "permission denied") {
				t.Errorf("something was refused:\n%s", &out)
			}
		})
	}
}
