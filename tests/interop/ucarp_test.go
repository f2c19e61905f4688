package interop

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// vip is the one address that ucarp can have.
var vip = netip.MustParseAddr("10.66.0.100")

const (
	// carpDown is how long ucarp or carpd waits at most with advbase 1: the
	// nominal time, one more interval for ucarp's poll loop and a second for its
	// deliveries, which were measured to be late by up to 1.8 s.
	carpDown = 3*time.Second + 400*time.Millisecond + 3*time.Second
	// carpSoon is a change that does not wait for a timer, give or take one
	// interval of ucarp's.
	carpSoon = 2500 * time.Millisecond
)

// carp runs carpd with one CARP instance.
func (h *host) carp(skew int, more string) {
	h.t.Helper()
	h.carpd(fmt.Sprintf("group g { preempt no }\ncarp carp1 { carpdev eth0  vhid 42  pass \"love\"  advbase 1  "+
		"advskew %d  address %v/32  group g  %s }",
		skew, vip, more))
}

// ucarp runs ucarp, which says in a file what it is.
func (h *host) ucarp(skew int, args ...string) {
	h.t.Helper()
	script := func(state string) string {
		p := h.WriteFile(state, "#!/bin/sh\necho "+state+" >> "+h.roleFile()+"\n")
		if err := os.Chmod(p, 0o700); err != nil {
			h.t.Fatal(err)
		}
		return p
	}
	addr, _, _ := strings.Cut(strings.TrimPrefix(h.Name, "h"), "/")
	h.d = h.Exec("ucarp", exec.Command(foreign(h.t, "ucarp"), append([]string{
		"-i", "eth0", "-s", "10.66.0." + addr, "-v", "42", "-p", "love", "-a", vip.String(), "-b", "1", "-k",
		strconv.Itoa(skew),
		"-u", script("master"), "-d", script("backup"),
	}, args...)...))
}

func (h *host) roleFile() string { return filepath.Join(h.Dir(), "role") }

// role is what ucarp was last told to be: master or backup.
func (h *host) role() string {
	b, err := os.ReadFile(h.roleFile())
	if err != nil {
		return ""
	}
	lines := strings.Fields(string(b))
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

func (h *host) awaitRole(want string, limit time.Duration) time.Duration {
	h.t.Helper()
	return lab.Eventually(h.t, limit, h.Name+" (ucarp) is "+want, func() bool { return h.role() == want })
}

// heard waits until carpd has taken that many advertisements, and fails if it
// refused one.
func (h *host) heard(n uint64) {
	h.t.Helper()
	lab.Eventually(h.t, 10*time.Second, "advertisements were heard", func() bool {
		s := h.state()
		return s != nil && s.Instances[0].Routers[0].Received >= n
	})
	if r := h.state().Instances[0].Routers[0]; r.Dropped != 0 {
		h.t.Errorf("%d advertisements refused\n%s", r.Dropped, h.d.Output())
	}
}

// carpd stays backup beside ucarp, takes over when it dies, and keeps what it
// has when it comes back. Both dialects: ucarp fills neither the demotion nor a
// stable counter.
func TestUcarpIsMaster(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"openbsd", "freebsd"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			ours, theirs := two(t)
			theirs.ucarp(0)
			theirs.awaitRole("master", carpDown)
			ours.carp(100, "carp-dialect "+dialect)
			ours.heard(5)
			ours.stays(api.StateBackup, 4*time.Second)
			if theirs.role() != "master" || ours.holds(vip) {
				t.Fatalf("ucarp is %s, carpd holds the address: %v", theirs.role(), ours.holds(vip))
			}
			theirs.d.Kill()
			t.Logf("master %v after ucarp's death", ours.await(api.StateMaster, carpDown))
			if !ours.holds(vip) {
				t.Error("master without the address")
			}
		})
	}
}

// ucarp stays backup beside carpd, takes over at once when carpd stops in order,
// and after its timer when it is killed.
func TestUcarpIsBackup(t *testing.T) {
	t.Parallel()
	ours, theirs := two(t)
	ours.carp(0, "")
	ours.await(api.StateMaster, carpDown)
	theirs.ucarp(100)
	ours.stays(api.StateMaster, 7*time.Second)
	if r := theirs.role(); r == "master" {
		t.Fatal("ucarp does not understand our advertisements")
	}
	began := time.Now()
	ours.d.Term(5 * time.Second)
	theirs.awaitRole("master", carpSoon)
	t.Logf("ucarp master %v after SIGTERM", time.Since(began))
	if ours.holds(vip) {
		t.Error("the address was left behind")
	}

	// Back, as the better one, without preempting.
	ours.carp(0, "")
	ours.heard(4)
	ours.stays(api.StateBackup, 2*time.Second)
}

// A killed carpd is replaced after ucarp's timer.
func TestUcarpAfterKill(t *testing.T) {
	t.Parallel()
	ours, theirs := two(t)
	ours.carp(0, "")
	ours.await(api.StateMaster, carpDown)
	theirs.ucarp(1)
	ours.stays(api.StateMaster, 5*time.Second)
	if theirs.role() == "master" {
		t.Fatal("ucarp does not understand our advertisements")
	}
	ours.d.Kill()
	t.Logf("ucarp master %v after the kill", theirs.awaitRole("master", carpDown))
	lab.Eventually(t, 3*time.Second, "the dead node's address is gone", func() bool { return !ours.holds(vip) })
}

// Resign: ucarp takes over at once, and carpd stays backup although it is the
// better one.
func TestUcarpResign(t *testing.T) {
	t.Parallel()
	ours, theirs := two(t)
	ours.carp(0, "preempt yes")
	ours.await(api.StateMaster, carpDown)
	theirs.ucarp(100)
	ours.stays(api.StateMaster, 4*time.Second)
	began := time.Now()
	ours.ctl("resign", "g")
	theirs.awaitRole("master", carpSoon)
	t.Logf("ucarp master %v after resign", time.Since(began))
	ours.stays(api.StateBackup, 5*time.Second)
}

// A better ucarp with -P takes over from carpd, and carpd with `preempt yes`
// from a lesser ucarp, each without waiting for a timer.
func TestUcarpPreempt(t *testing.T) {
	t.Parallel()
	t.Run("ucarp", func(t *testing.T) {
		t.Parallel()
		ours, theirs := two(t)
		ours.carp(100, "")
		ours.await(api.StateMaster, carpDown)
		theirs.ucarp(0, "-P")
		theirs.awaitRole("master", carpDown)
		ours.await(api.StateBackup, carpSoon)
		if ours.holds(vip) {
			t.Error("the address was left behind")
		}
	})
	t.Run("carpd", func(t *testing.T) {
		t.Parallel()
		ours, theirs := two(t)
		theirs.ucarp(100)
		theirs.awaitRole("master", carpDown)
		ours.carp(0, "preempt yes")
		ours.await(api.StateMaster, carpDown)
		theirs.awaitRole("backup", carpSoon)
		if r := ours.state().Reason; r != "preempt" {
			t.Errorf("reason %q", r)
		}
	})
}

// Both with the same skew, both masters at first: that ends in one, whatever
// ucarp thinks of the addresses, and that is how it stays.
func TestUcarpTie(t *testing.T) {
	t.Parallel()
	for _, first := range []int{0, 1} { // who has the lower address
		t.Run(fmt.Sprintf("carpd is h%d", first+1), func(t *testing.T) {
			t.Parallel()
			a, b := two(t)
			ours, theirs := a, b
			if first == 1 {
				ours, theirs = b, a
			}
			flood := func(how string) {
				for _, port := range []*lab.Port{a.port, b.port} {
					a.Net().Fabric().Run("bridge link set dev " + port.Outer + " mcast_flood " + how)
				}
			}
			flood("off")
			ours.carp(10, "")
			theirs.ucarp(10)
			ours.await(api.StateMaster, carpDown)
			theirs.awaitRole("master", carpDown)
			flood("on")
			// Both may yield at first: ucarp handles what it has received late.
			settled, since := "", time.Now()
			lab.Eventually(t, 3*carpDown, "the same one has been master for 6 s", func() bool {
				s := ours.state()
				if s == nil || s.State != settled || (theirs.role() == "master") == (s.State == api.StateMaster) {
					since = time.Now()
				}
				if s != nil {
					settled = s.State
				}
				return time.Since(since) > 6*time.Second
			})
			t.Logf("carpd is %s", settled)
		})
	}
}

// Demoted, carpd makes room in either dialect: in the one ucarp sees a larger
// advskew, in the other carpd sees that ucarp is not demoted.
func TestUcarpDemotion(t *testing.T) {
	t.Parallel()
	ours, theirs := two(t)
	ours.carp(0, "carp-dialect freebsd")
	ours.await(api.StateMaster, carpDown)
	theirs.ucarp(100, "-P")
	ours.stays(api.StateMaster, 4*time.Second)
	ours.ctl("demote", "g", "150", "test")
	t.Logf("ucarp master %v after the demotion", theirs.awaitRole("master", carpDown))
	ours.await(api.StateBackup, carpSoon)
}

// The trailer of our own does not disturb ucarp.
func TestUcarpIgnoresTrailer(t *testing.T) {
	t.Parallel()
	ours, theirs := two(t)
	ours.carp(0, "auth permissive  key 1 0123456789abcdef0123456789abcdef")
	ours.await(api.StateMaster, carpDown)
	theirs.ucarp(100)
	ours.stays(api.StateMaster, 6*time.Second)
	if theirs.role() == "master" {
		t.Error("ucarp does not understand advertisements with a trailer")
	}
}
