package replication

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sasyncd/sync/engine"
	"sasyncd/sync/sadb"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// TestTwoLinks cuts the link in use: the other one is taken within 3 s of
// silence, and nothing is missed.
func TestTwoLinks(t *testing.T) {
	r := newRand(t)
	c := cluster.New(t, 2, 2)
	m, s := c.Master(), c.Nodes[1]
	m.Apply(sadb.OpAddSA, cluster.SAs(r, 100)...)
	c.Start()
	before := m.Counts()
	for cut := range 2 {
		s.Cut(cut)
		m.Apply(sadb.OpAddSA, cluster.SAs(r, 10)...)
		took := c.WaitEqual(10*time.Second, s)
		t.Logf("link %d cut: equal after %v", cut, took)
		if cut == 0 && took < time.Second {
			t.Log("(the other link was in use)")
		}
		// 3 s of silence until the link counts as dead, and the new connection.
		if limit := 4500 * time.Millisecond; took > limit {
			t.Errorf("the cut link was left after %v, want at most %v", took, limit)
		}
		s.Heal(cut)
	}
	now := m.Counts()
	if now.SnapshotsSent != before.SnapshotsSent || now.Resumes == before.Resumes {
		t.Errorf("%d snapshots, %d resumptions, want none and some", now.SnapshotsSent-before.SnapshotsSent,
			now.Resumes-before.Resumes)
	}
}

// TestKeyRotation changes the shared key of running gateways by reloading them
// one by one, under a stream of changes: no session ends and nothing is missed.
// A gateway that has another key is never spoken to.
func TestKeyRotation(t *testing.T) {
	r := newRand(t)
	c := cluster.New(t, 3, 1)
	m, s, stranger := c.Master(), c.Nodes[1], c.Nodes[2]
	stranger.Keys = []string{cluster.NewKey()}
	m.Apply(sadb.OpAddSA, cluster.SAs(r, 100)...)
	m.Start()
	s.Start()
	stranger.Start()
	s.WaitInSync()
	session := sessionOf(t, m.Status(), 1)
	before := m.Counts()

	old, fresh := m.Keys[0], cluster.NewKey()
	pair := []*cluster.Node{m, s}
	stop := stream(r, m)
	for _, keys := range [][]string{{old, fresh}, {fresh, old}, {fresh}} {
		for _, nd := range pair {
			nd.Keys = keys
			nd.Reload()
			time.Sleep(300 * time.Millisecond) // changes flow between the reloads
		}
	}
	// The connection under the key that is gone is replaced meanwhile.
	time.Sleep(2 * time.Second)
	if n := stop(); n < 50/harness.Slow() {
		t.Errorf("%d changes during the rotation: the test has nothing to show", n)
	}
	c.WaitEqual(5*time.Second, s)
	now := m.Counts()
	if now.SnapshotsSent != before.SnapshotsSent || now.Resumes != before.Resumes {
		t.Errorf("%d snapshots and %d resumptions: a session was lost", now.SnapshotsSent-before.SnapshotsSent,
			now.Resumes-before.Resumes)
	}
	if again := sessionOf(t, m.Status(), 1); again.Since != session.Since {
		t.Errorf("the session is of %v, at the start it was of %v", again.Since, session.Since)
	}
	if n := len(stranger.Dump().SAs); n != 0 {
		t.Errorf("the gateway with another key has %d SAs", n)
	}
	if members := stranger.Status().Members; len(members) != 0 {
		t.Errorf("the gateway with another key speaks with %v", members)
	}

	// The new key is really the one in use: who has only the old one is refused.
	s.Keys = []string{old}
	s.Stop()
	s.Start()
	m.Apply(sadb.OpAddSA, cluster.SAs(r, 5)...)
	time.Sleep(2 * time.Second)
	if members := s.Status().Members; len(members) != 0 {
		t.Errorf("a gateway with the removed key speaks with %v", members)
	}
	if n := len(cluster.Differences(m.Dump(), s.Dump())); n < 5 {
		t.Errorf("a gateway with the removed key differs in %d items, want at least the 5 that are new", n)
	}
}

// sessionOf returns the only session.
func sessionOf(t *testing.T, s engine.Status, want int) engine.MemberStatus {
	t.Helper()
	if len(s.Members) != want {
		t.Fatalf("%d sessions, want %d: %v", len(s.Members), want, s.Members)
	}
	return s.Members[0]
}

// stream rekeys on the node until it is stopped, which returns how many times.
func stream(r *rand.Rand, nd *cluster.Node) (stop func() int) {
	r = rand.New(rand.NewPCG(r.Uint64(), 0))
	quit, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		list := cluster.SAs(r, 50)
		nd.Apply(sadb.OpAddSA, list...)
		for {
			select {
			case <-quit:
				done <- n
				return
			case <-tick.C:
				list = change(r, nd, list, 2)
				n++
			}
		}
	}()
	return func() int { close(quit); return <-done }
}

// TestReload: a reload does everything or nothing, and does not touch sessions
// that it is not about.
func TestReload(t *testing.T) {
	r := newRand(t)
	c := cluster.New(t, 3, 1)
	m, s, third := c.Master(), c.Nodes[1], c.Nodes[2]
	m.Apply(sadb.OpAddSA, cluster.SAs(r, 20)...)
	c.Start()
	kept := func() map[string]time.Time {
		since := make(map[string]time.Time)
		for _, x := range m.Status().Members {
			since[x.Peer] = x.Since
		}
		return since
	}
	whole := kept()
	if len(whole) != 2 {
		t.Fatalf("the master has sessions with %v, want two", whole)
	}
	file := filepath.Join(m.Dir(), "sasyncd.conf")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	without := strings.Replace(good, "peer "+third.Address(0)+"\n", "", 1)
	if without == good {
		t.Fatalf("no peer %s in\n%s", third.Address(0), good)
	}
	open := m.WriteFile("open.key", cluster.NewKey()+"\n")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	// Each is wrong in one place and would drop a peer in another.
	for what, tc := range map[string]struct{ conf, says string }{
		"a mistake":               {without + "flushmode sometimes\n", "sometimes"},
		"what needs a restart":    {without + "replay interval 2s\n", "replay interval"},
		"a key open to others":    {without + fmt.Sprintf("sharedkey file %q\n", open), "open.key"},
		"a key that is not there": {without + "sharedkey file \"/nonexistent/key\"\n", "/nonexistent/key"},
	} {
		m.WriteFile("sasyncd.conf", tc.conf)
		m.Daemon.Signal(syscall.SIGHUP)
		m.Daemon.WaitLog(tc.says, cluster.SyncLimit)
		if now := kept(); !maps.EqualFunc(now, whole, time.Time.Equal) {
			t.Errorf("%s: sessions are %v, were %v", what, now, whole)
		}
	}
	m.Apply(sadb.OpAddSA, cluster.SAs(r, 5)...)
	c.WaitEqual(5*time.Second, s, third)

	// What is right is done: one peer goes, the other's session does not notice.
	m.WriteFile("sasyncd.conf", without)
	m.Daemon.Signal(syscall.SIGHUP)
	left := s.Address(0)
	lab.Eventually(t, cluster.SyncLimit, "the session with the peer that was removed to end", func() bool {
		now := kept()
		return len(now) == 1 && now[left].Equal(whole[left])
	})
	m.Apply(sadb.OpAddSA, cluster.SAs(r, 5)...)
	c.WaitEqual(5*time.Second, s)
	if n := len(cluster.Differences(m.Dump(), third.Dump())); n != 5 {
		t.Errorf("the peer that was removed differs in %d items, want the 5 that are new", n)
	}

	// And it comes back.
	m.WriteFile("sasyncd.conf", good)
	m.Daemon.Signal(syscall.SIGHUP)
	third.WaitInSync()
	c.WaitEqual(5*time.Second, s, third)
	if now := kept(); !now[left].Equal(whole[left]) {
		t.Errorf("the session with %s is of %v, was of %v", left, now[left], whole[left])
	}
}
