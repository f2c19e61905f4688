// Package links cuts the links between three gateways, one at a time, with real
// daemons. No ESP is needed: it runs on this kernel, as root.
package links

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

func TestMain(m *testing.M) {
	harness.Main(m, append(scenario.Options(), harness.Plain())...)
}

// patience is for what takes 4 s: a session is dead after 3 s of silence, and a word
// comes every second.
const patience = 20 * time.Second

// says runs sasyncctl on a gateway and returns what it prints, on one line, and its
// exit code.
func says(t *testing.T, m *scenario.Member, args ...string) (string, int) {
	t.Helper()
	bin, err := harness.Binary("sasyncctl")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, append([]string{"-s", m.Socket()}, args...)...).CombinedOutput()
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(out)), " "), code
}

// await waits until a command on a gateway prints all words, and ends with a code.
func await(t *testing.T, m *scenario.Member, code int, command string, words ...string) {
	t.Helper()
	var out string
	var got int
	defer func() {
		if t.Failed() {
			t.Logf("%s: sasyncctl %s: code %d: %s", m.Name, command, got, out)
		}
	}()
	lab.Eventually(t, patience, fmt.Sprintf("sasyncctl %s on %s to say %q with code %d", command, m.Name, words, code),
		func() bool {
			out, got = says(t, m, command)
			return got == code && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(out, w) })
		})
}

// seen is the beginning and the end of the sentence about a gateway that another sees.
func seen(m, via *scenario.Member, master bool) (begin, end string) {
	begin = " is alive, seen by way of " + via.SyncAddr.String()
	if master {
		begin = " is alive and MASTER of " + scenario.Group + ", seen by way of " + via.SyncAddr.String()
	}
	return m.SyncAddr.String() + ":" + strings.Replace(begin, " is", " it is", 1), " s ago: the link between you is cut"
}

// takeovers counts them on all gateways.
func takeovers(t *testing.T, p *scenario.Pair) (n uint64) {
	t.Helper()
	for _, m := range p.Members {
		s, err := m.Status()
		if err != nil {
			t.Fatal(err)
		}
		n += s.Counts.Takeovers
	}
	return n
}

// TestEachLinkCut cuts the sync link between each two of three gateways. All three say
// which link is cut, on both ends what the other is and how that is known. Nobody's
// role changes, and when the link is whole everything is as before.
func TestEachLinkCut(t *testing.T) {
	t.Parallel()
	p := scenario.NewPlain(t, 3)
	p.Start()
	master := p.Members[0]
	before := takeovers(t, p)
	for i, ends := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 2, 0}} {
		a, b, third := p.Members[ends[0]], p.Members[ends[1]], p.Members[ends[2]]
		lab.Part(a.Sync, b.Sync)
		for _, x := range [][2]*scenario.Member{{a, b}, {b, a}} {
			here, there := x[0], x[1]
			begin, end := seen(there, third, there == master)
			code := 0
			if there == master {
				code = 3 // it cannot be judged from here
				await(t, here, 0, "status", "master none known elsewhere "+there.SyncAddr.String()+
					" is alive and MASTER of "+scenario.Group+
					", seen by way of "+third.SyncAddr.String(), end)
			}
			await(t, here, code, "check", begin, end)
			await(t, here, 0, "peers", there.SyncAddr.String(), "is alive and ", " of "+scenario.Group+
				", seen by way of "+third.SyncAddr.String(), end)
		}
		await(t, third, 0, "check", "the link between it and "+b.SyncAddr.String()+" is cut")
		if n := takeovers(t, p); n != before {
			t.Errorf("cut %d: %d takeovers", i, n-before)
		}
		lab.Rejoin(a.Sync, b.Sync)
		p.WaitFit(master)
		for _, m := range p.Members {
			lab.Eventually(t, patience, m.Name+" to say nothing of a cut", func() bool {
				out, code := says(t, m, "check")
				return code == 0 && !strings.Contains(out, "cut")
			})
		}
	}
	if n := takeovers(t, p); n != before {
		t.Errorf("%d takeovers", n-before)
	}
}

// TestNobodyTakesOverBehindACut cuts everything between the MASTER and a standby: first
// the sync link, until the standby is not in sync any more, then the networks that
// carry the advertisements. The standby waits, as the third gateway passes on that
// there is a MASTER. When the MASTER has no power it waits no longer, and the third
// gateway, which is in sync, takes over.
func TestNobodyTakesOverBehindACut(t *testing.T) {
	t.Parallel()
	p := scenario.NewPlain(t, 3)
	p.AloneAfter = time.Second
	p.Start()
	master, other, lone := p.Members[0], p.Members[1], p.Members[2]
	before := takeovers(t, p)
	lab.Part(master.Sync, lone.Sync)
	lab.Eventually(t, patience, lone.Name+" not to be in sync", func() bool {
		s, err := lone.Status()
		return err == nil && !s.Groups[0].InSync
	})
	lab.Part(master.WAN, lone.WAN)
	lab.Part(master.LAN, lone.LAN)
	lab.Eventually(t, patience, lone.Name+" to hear no MASTER for longer than it waits alone", func() bool {
		g, err := lone.Elected()
		if err != nil {
			t.Fatal(err)
		}
		if g.State != api.StateBackup {
			t.Fatalf("%s is %s", lone.Name, g.State)
		}
		return !slices.ContainsFunc(g.Instances, func(in api.InstanceState) bool {
			return slices.ContainsFunc(in.Routers,
				func(r api.RouterState) bool { return r.HeardMS < harness.Scaled(4*time.Second).Milliseconds() })
		})
	})
	if g, err := lone.Elected(); err != nil || g.Blocked != "not in sync" {
		t.Errorf("%s: blocked %q, error %v", lone.Name, g.Blocked, err)
	}
	if n := takeovers(t, p); n != before {
		t.Errorf("%d takeovers while the MASTER was there", n-before)
	}
	begin, end := seen(master, other, true)
	await(t, lone, 3, "check", begin, end)
	master.Off()
	other.WaitRole("MASTER")
	lone.WaitInSync()
	if n := len(p.Masters()); n != 1 {
		t.Errorf("%d are MASTER", n)
	}
}
