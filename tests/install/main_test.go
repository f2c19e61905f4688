// Package install has drills with the package as users install it: two machines
// on which systemd is PID 1, dpkg, and an upgrade under traffic. They take longer
// than the others, so they have a target of their own: make drill-package.
package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

func TestMain(m *testing.M) {
	harness.Main(m, harness.Memory(2<<30), harness.Beside(), harness.Prepare(packages))
}

// limit of what is waited for: that it happens at all.
const limit = 60 * time.Second

// rate of each flow, in packets a second.
const rate = 200

// What [packages] leaves beside the programs.
const (
	packageNew = "new.deb"
	packageOld = "old.deb"
	oldOrigin  = "old.origin" // a line that says what packageOld was made from
)

// older is a commit with packages, of the release before; OLD=commit in the
// environment names another one.
const older = "430a65c"

// packages builds the package from these sources, and that of the release before.
func packages(dir string) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "sasyncd-packages-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := build(root, tmp, filepath.Join(dir, packageNew)); err != nil {
		return err
	}
	commit := older
	if c := os.Getenv("OLD"); c != "" {
		commit = c
	}
	tree := filepath.Join(tmp, "tree")
	origin := "commit " + commit
	// A shallow clone has no older commits.
	script := fmt.Sprintf("mkdir %[1]s && cd %[2]s && git cat-file -e %[3]s^{commit} && git archive %[3]s | tar -x "+
		"-C %[1]s", tree, root, commit)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		if os.Getenv("OLD") != "" {
			return fmt.Errorf("check out %s: %w\n%s", commit, err, out)
		}
		origin = "these very sources with another version, because commit " + commit + " is not in this clone"
		script := fmt.Sprintf("mkdir -p %[1]s && cd %[2]s && tar -c --exclude=./.git --exclude=./bin "+
			"--exclude=./dist . | tar -x -C %[1]s", tree, root)
		if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
			return fmt.Errorf("copy the sources: %w\n%s", err, out)
		}
	}
	log := filepath.Join(tree, "CHANGELOG.md")
	b, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	was := regexp.MustCompile(`(?m)^## \d+\.\d+\.\d+ `).FindString(string(b))
	if was == "" {
		return fmt.Errorf("%s has no entry of a release", log)
	}
	if err := os.WriteFile(log, []byte(strings.Replace(string(b), was, "## 0.0.1 ", 1)), 0o644); err != nil {
		return err
	}
	if err := build(tree, tmp, filepath.Join(dir, packageOld)); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, oldOrigin), []byte(origin), 0o644)
}

// build builds the package of the sources in root and moves it.
func build(root, tmp, to string) error {
	cmd := exec.Command(filepath.Join(root, "deploy/packages/build"), runtime.GOARCH, tmp, "deb")
	if _, err := os.Stat(cmd.Path); err != nil { // the release before has another
		cmd = exec.Command(filepath.Join(root, "deploy/deb/build"), runtime.GOARCH, tmp)
	}
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("build the package in %s: %w", root, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if out, err := exec.Command("cp", lines[len(lines)-1], to).CombinedOutput(); err != nil {
		return fmt.Errorf("keep the package: %w\n%s", err, out)
	}
	return nil
}

// prepared returns the path of what [packages] left.
func prepared(t *testing.T, name string) string {
	t.Helper()
	p, err := harness.Binary(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// traffic starts flows between h1 and h2, both ways and both families, and a
// capture of the WAN.
func traffic(t *testing.T, p *scenario.Pair) (*meter.Meter, *capture.Capture) {
	t.Helper()
	c := capture.Start(t, capture.Config{Ports: p.WANPorts(), Inner: lab.Inner()})
	return meter.Start(t, append(
		meter.Both(meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7000, Rate: rate}),
		meter.Both(meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr6, Dst: lab.H2Addr6, Port: 7002,
			Rate: rate})...)...), c
}

// flowing waits until n more packets have arrived on every flow.
func flowing(t *testing.T, m *meter.Meter, n int) {
	t.Helper()
	want := make([]int, len(m.Flows))
	for i, f := range m.Flows {
		want[i] = f.Received() + n
	}
	lab.Eventually(t, limit, "traffic on every flow", func() bool {
		time.Sleep(20 * time.Millisecond) // the guest pays for every look
		for i, f := range m.Flows {
			if f.Received() < want[i] {
				return false
			}
		}
		return true
	})
}

// phase waits for the last packets of a period to arrive, and reports on it.
func phase(t *testing.T, m *meter.Meter, what string, from time.Time) meter.Report {
	t.Helper()
	to := time.Now()
	flowing(t, m, rate/2)
	r := m.Between(from, to)
	r.Name = what
	t.Logf("%6.1f s  %v", to.Sub(from).Seconds(), r)
	if r.Sent == 0 {
		t.Errorf("%s: nothing was sent", what)
	}
	return r
}

// requireNothingRefused fails the test when an end of the tunnels has refused a
// packet for its sequence number.
func requireNothingRefused(t *testing.T, p *scenario.Pair) {
	t.Helper()
	for _, nd := range []*lab.Node{p.RGW, p.Members[0].Node, p.Members[1].Node} {
		if st := nd.XfrmStat(); lab.Refused(nil, st) != 0 {
			t.Errorf("%s has refused packets: %v", nd.Name, st)
		}
	}
}
