package replication

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/tests/cluster"
	"sasyncd/tests/corpus"
	"sasyncd/tests/harness"
)

// newRand returns a generator whose seed a failure shows.
func newRand(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %#x", seed)
	return sadbtest.NewRand(seed)
}

// TestCorpus gives a master every kind of SA and policy, and a crowd of random
// ones, and compares three standbys with it. What belongs to one machine alone
// stays there.
func TestCorpus(t *testing.T) {
	r := newRand(t)
	c := cluster.New(t, 4, 1)
	m := c.Master()
	m.Sysctl(fmt.Sprintf("net/core/xfrm_acq_expires=%d", 30*harness.Slow())) // a larval SA is to be there at the end
	half := corpus.Vary(r)
	m.IP(half[:len(half)/2]...) // before the start: they come by snapshot
	c.Start()
	m.IP(half[len(half)/2:]...) // and after: by event
	var crowd []*sadb.SA
	for range max(50, 200/harness.Slow()) {
		sa := sadbtest.SA(r)
		if !sa.ESN() {
			sa.OSeq %= 1 << 31 // nearer to its end than the margin, a standby withdraws it
		}
		crowd = append(crowd, sa)
	}
	m.Apply(sadb.OpAddSA, crowd...)
	m.IP("xfrm state allocspi src 10.254.0.1 dst 10.254.0.2 proto esp reqid 9 mode tunnel min 0x100 max 0x200")
	if err := m.Do(socketPolicy); err != nil {
		t.Fatalf("set socket policy: %v", err)
	}

	t.Logf("equal after %v", c.WaitEqual(cluster.SyncLimit, c.Standbys()...))
	own := m.Dump()
	if larval, sockets, hidden := local(own); larval == 0 || sockets == 0 || hidden == 0 {
		t.Fatalf("%d larval SAs, %d socket policies, %d hidden SAs on the master: the test has nothing to show", larval,
			sockets, hidden)
	}
	want := m.Text(true)
	for _, s := range c.Standbys() {
		if have := s.Text(false); have != want {
			t.Errorf("ip -s xfrm of %s is not that of the master: %s", s.Name, cluster.FirstDifference(want, have))
		}
		snap := s.Dump()
		if larval, sockets, _ := local(snap); larval != 0 || sockets != 0 {
			t.Errorf("%s has %d larval SAs and %d socket policies", s.Name, larval, sockets)
		}
		checkAhead(t, s.Name, own, snap)
		if g := s.Group(); g.Refused != 0 {
			t.Errorf("%s: %d items refused", s.Name, g.Refused)
		}
		if n := s.Counts(); n.Repairs != 0 || n.DigestMismatches != 0 {
			t.Errorf("%s: %d repairs, %d digest mismatches", s.Name, n.Repairs, n.DigestMismatches)
		}
	}
}

// local counts what must not be replicated.
func local(snap *sadb.Snapshot) (larval, sockets, hidden int) {
	for _, sa := range snap.SAs {
		switch {
		case sa.Key.Proto == unix.IPPROTO_IPIP || sa.Key.Proto == unix.IPPROTO_IPV6: // the kernel's, for IPComp
			hidden++
		case sa.Larval():
			larval++
		}
	}
	for _, p := range snap.Policies {
		if p.Socket {
			sockets++
		}
	}
	return larval, sockets, hidden
}

// checkAhead compares outbound counters: a standby's lead the master's by the
// margin, or as far as the counter has room.
func checkAhead(t *testing.T, name string, master, standby *sadb.Snapshot) {
	t.Helper()
	margin := sadb.DefaultMargin()
	have := make(map[sadb.SAKey]*sadb.SA)
	for _, sa := range standby.SAs {
		have[sa.Key] = sa
	}
	n := 0
	for _, sa := range master.SAs {
		h := have[sa.Key]
		if !sa.Replicable() || sa.Key.Proto == sadb.ProtoComp || sa.KernelDir == sadb.DirIn || h == nil {
			continue
		}
		lead, _ := margin.Lead(sa.ESN(), 0, 0)
		want, _ := sadb.Ahead(sa.ESN(), sa.OSeq, lead)
		if h.OSeq < want {
			t.Errorf("%s: %s stands at %d, the master at %d, want at least %d", name, sa.Key, h.OSeq, sa.OSeq, want)
		}
		if h.Seq < sa.Seq {
			t.Errorf("%s: %s accepted %d, the master %d", name, sa.Key, h.Seq, sa.Seq)
		}
		n++
	}
	if n == 0 {
		t.Errorf("%s: no outbound SA to compare", name)
	}
}

// socketPolicy gives a socket, which stays open, a policy of its own (struct
// xfrm_userpolicy_info by setsockopt).
func socketPolicy() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var info [168]byte
	binary.NativeEndian.PutUint16(info[40:], unix.AF_INET)
	for i := range 4 { // byte and packet limits
		binary.NativeEndian.PutUint64(info[56+8*i:], math.MaxUint64)
	}
	info[160] = 1 // out
	const ipXfrmPolicy = 17
	if err := unix.SetsockoptString(fd, unix.SOL_IP, ipXfrmPolicy, string(info[:])); err != nil {
		return fmt.Errorf("IP_XFRM_POLICY: %w", err)
	}
	return nil
}

// TestHardExpire: what the master's kernel ends is ended on the standby, after
// the time in which the master could still be found to be dying.
func TestHardExpire(t *testing.T) {
	r := newRand(t)
	c := cluster.New(t, 2, 1)
	c.Start()
	m, s := c.Master(), c.Nodes[1]
	list := cluster.SAs(r, 20)
	for _, sa := range list { // they must live until the standby has them
		sa.Limits.SoftAdd = uint64(harness.Slow())
		sa.Limits.HardAdd = 2 * sa.Limits.SoftAdd
	}
	m.Apply(sadb.OpAddSA, list...)
	m.Apply(sadb.OpAddSA, cluster.SAs(r, 20)...)
	c.WaitEqual(cluster.SyncLimit, s)
	if n := len(s.Dump().SAs); n != 40 {
		t.Fatalf("%d SAs on the standby before the end, want 40", n)
	}
	c.Eventually(10*time.Second, "the master's SAs to expire", func() bool { return len(m.Dump().SAs) == 20 })
	if n := len(s.Dump().SAs); n != 40 {
		t.Errorf("%d SAs on the standby when the master's expire, want 40 until it is sure that the master lives", n)
	}
	took := c.WaitEqual(6*time.Second, s)
	t.Logf("gone %v after the master's", took)
	if n := len(s.Dump().SAs); n != 20 {
		t.Errorf("%d SAs remain, want 20", n)
	}
}
