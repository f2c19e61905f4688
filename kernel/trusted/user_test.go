package trusted_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/trusted"
)

// asUser names the program that the test binary runs instead of its tests.
const asUser = "TRUSTED_TEST_PROGRAM"

func init() {
	path := os.Getenv(asUser)
	if path == "" {
		return
	}
	// As the daemons do: /proc/PID belongs to root then.
	err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	var out []byte
	if err == nil {
		var prog *trusted.Program
		if prog, err = trusted.For(os.Geteuid()).Program(path); err == nil {
			out, err = prog.Command(context.Background(), "it").CombinedOutput()
		}
	}
	if err == nil {
		var f *os.File
		if f, err = trusted.For(os.Geteuid()).Open(path); err == nil {
			f.Close()
		}
	}
	if err != nil {
		fmt.Print(err)
		os.Exit(1)
	}
	os.Stdout.Write(out)
	os.Exit(0)
}

// TestUserWithoutRightsRunsPrograms: what is done by way of /proc/self works for a
// process that is not root and has no core dumps, as carpd.
func TestUserWithoutRightsRunsPrograms(t *testing.T) {
	p := newPlace(t)
	for dir := p.base; dir != filepath.Dir(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	for path, want := range map[string]string{
		"/bin/echo":                            "it\n",
		p.file("root.sh", say, 0, 0o755):       "root.sh it\n",
		p.file("own.sh", say, other, 0o755):    "own.sh it\n",
		p.file("else.sh", say, other+1, 0o755): "",
	} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{self}
		cmd.Env = []string{asUser + "=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
		out, err := cmd.CombinedOutput()
		if (err == nil) != (want != "") || err == nil && string(out) != want && string(out) != "/proc/self/fd/3/"+want {
			t.Errorf("%s: %q, %v", path, out, err)
		}
	}
}
