package harness_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sasyncd/tests/harness"
)

func shell(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }

func TestMain(m *testing.M) { harness.Main(m, harness.Build("./tests/harness/testprog")) }

func TestSourcesAreReadableAndReadOnly(t *testing.T) {
	if _, err := os.ReadFile("boot_test.go"); err != nil {
		t.Errorf("the working directory is not the package's: %v", err)
	}
	if !harness.Guest() {
		return // the host's own files stay writable, of course
	}
	if err := os.WriteFile("written-by-guest", nil, 0o600); err == nil {
		t.Error("the guest can write the host's files")
	}
}

func TestScratchDirectoriesAreWritable(t *testing.T) {
	for _, dir := range []string{"/run", "/tmp", "/var/lib"} {
		f, err := os.CreateTemp(dir, "harness-test-")
		if err != nil {
			t.Error(err)
			continue
		}
		f.Close()
		os.Remove(f.Name())
	}
}

func TestBuiltProgramRuns(t *testing.T) {
	bin, err := harness.Binary("testprog")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, "print", "a word").Output()
	if err != nil || strings.TrimSpace(string(out)) != "a word" {
		t.Errorf("the built program printed %q, %v", out, err)
	}
	if _, err := harness.Binary("absent"); err == nil {
		t.Error("a program that was not built was found")
	}
}

func TestArtifactDirIsWritable(t *testing.T) {
	p := filepath.Join(harness.ArtifactDir(), "probe")
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Error(err)
	}
	os.Remove(p)
}
