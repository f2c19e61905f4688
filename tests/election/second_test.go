package election

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
)

// kernelOf is what carpd has put into the kernel of a node.
func (g *gateway) kernelOf() string {
	g.t.Helper()
	return g.Run("ip -br addr show") + g.Run("ip -4 rule show") + g.Run("ip -6 rule show")
}

// A second carpd and a cleanup beside a live MASTER change nothing, wherever their
// socket and state directory are, and say why.
func TestSecondCarpd(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	a := p.gws[0]
	p.start(a)
	a.await(api.StateMaster, patience)
	m := p.traffic()
	before := a.kernelOf()
	file := p.config(a)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	elsewhere := a.WriteFile("second.conf", strings.NewReplacer(a.socket(),
		filepath.Join(a.Dir(), "second.sock")).Replace(text))
	nothing := a.WriteFile("third.conf", strings.NewReplacer(a.socket(), filepath.Join(a.Dir(), "third.sock"),
		filepath.Join(a.Dir(), "state"), filepath.Join(a.Dir(), "third")).Replace(text))
	began := time.Now()
	for name, args := range map[string][]string{
		"the same file":                    {"-d", "-c", file},
		"another socket":                   {"-d", "-c", elsewhere},
		"another socket and state":         {"-d", "-c", nothing},
		"cleanup":                          {"-d", "-c", file, "cleanup"},
		"cleanup with another socket":      {"-d", "-c", elsewhere, "cleanup"},
		"cleanup of another configuration": {"-d", "-c", nothing, "cleanup"},
	} {
		_, err := a.Try(program(t, "carpd") + " " + strings.Join(args, " "))
		if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(),
			"another carpd is running") {
			t.Errorf("%s: %v", name, err)
		}
		if after := a.kernelOf(); after != before {
			t.Errorf("%s changed the kernel:\n%s\nbefore:\n%s", name, after, before)
		}
	}
	if report := m.Between(began, time.Now()); report.Gap-report.Stall > 200*time.Millisecond {
		t.Errorf("traffic through the gateway: %v", report)
	}
	m.Stop()
	if s := a.state(); s.State != api.StateMaster {
		t.Errorf("the first one is %+v", s)
	}

	// The end of the process is the end of its claim, whatever ended it.
	a.d.Kill()
	a.Run(program(t, "carpd") + " -c " + file + " cleanup")
	if a.fenced() != 4 || a.holds() != 0 {
		t.Errorf("cleanup after a kill: %d addresses are fenced, %d are there", a.fenced(), a.holds())
	}
	p.start(a)
	a.await(api.StateMaster, patience)
}
