package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// simKeying takes its time to be silent.
type simKeying struct {
	takes time.Duration
	err   error

	mu      sync.Mutex
	told    []string
	flushes bool
	status  KeyingStatus // but for the driver's name
}

func (k *simKeying) note(format string, args ...any) {
	k.mu.Lock()
	k.told = append(k.told, fmt.Sprintf(format, args...))
	k.mu.Unlock()
}

func (k *simKeying) Passive(_ string, term uint64, _ string, settled bool, _ []netip.Addr, done func(error)) {
	k.note("passive %d settled %v", term, settled)
	if done != nil {
		time.AfterFunc(k.takes, func() { done(k.err) })
	}
}

func (k *simKeying) Active(_ string, term uint64, _ string, vips []netip.Addr) {
	k.note("active %d with %d addresses", term, len(vips))
}

func (k *simKeying) Status(string) KeyingStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.status
	s.Driver, s.FlushesOnStart = "sim", k.flushes
	return s
}

func (k *simKeying) setStatus(s KeyingStatus) {
	k.mu.Lock()
	k.status = s
	k.mu.Unlock()
}

func (k *simKeying) setFlushes(b bool) {
	k.mu.Lock()
	k.flushes = b
	k.mu.Unlock()
}

func (k *simKeying) said() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.told
	k.told = nil
	return t
}

func (e *simElector) answers() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.prepared)
}

// TestKeyingFollowsTheRole: passive before the election may move an address,
// active only when the addresses are up.
func TestKeyingFollowsTheRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		k := &simKeying{takes: 50 * time.Millisecond}
		w.nodes[0].keying = k
		w.nodes[0].boot(100)
		w.nodes[1].boot(101)
		defer w.stop()
		n := w.nodes[0]
		want := func(when string, said ...string) {
			t.Helper()
			time.Sleep(50 * time.Millisecond) // for the kernel to be read
			synctest.Wait()
			if got := k.said(); !slices.Equal(got, said) {
				t.Errorf("%s: was told %q, want %q", when, got, said)
			}
		}
		n.role(wire.RoleBackup, 1)
		want("backup", "passive 1 settled true")
		n.role(wire.RoleMaster, 2)
		want("master", "active 2 with 2 addresses")
		w.nodes[1].role(wire.RoleBackup, 2)
		w.connect(0, 1)
		time.Sleep(2 * time.Second)

		prepare := ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: 2}
		for _, tc := range []struct {
			when       string
			takes      time.Duration
			err        error
			from, till time.Duration // within which the election is answered
		}{
			{"a quick daemon", 30 * time.Millisecond, nil, 30 * time.Millisecond, 40 * time.Millisecond},
			{"one that fails", 30 * time.Millisecond, errors.New("no"), 30 * time.Millisecond, 40 * time.Millisecond},
			{"one that hangs", time.Hour, nil, silenceLimit, silenceLimit + 2*housekeeping},
		} {
			k.takes, k.err = tc.takes, tc.err
			before := n.elector.answers()
			n.elector.events <- prepare
			time.Sleep(tc.from - time.Millisecond)
			synctest.Wait()
			if n.elector.answers() != before {
				t.Errorf("%s: the election was answered while the daemon could still speak", tc.when)
			}
			time.Sleep(tc.till - tc.from + time.Millisecond)
			synctest.Wait()
			if n.elector.answers() != before+1 {
				t.Errorf("%s: the election was answered %d times", tc.when, n.elector.answers()-before)
			}
			want(tc.when, "passive 2 settled false")
			n.elector.events <- ElectorEvent{Kind: ElectorCancel, Group: simGroup}
			want(tc.when+", called off", "active 2 with 2 addresses")
		}
		n.role(wire.RoleBackup, 3)
		want("lost", "passive 3 settled true")
	})
}

// TestLoading: the election is told while the keying is on its way to the policies
// that it is to have, and that is nobody's fault where it has failed.
func TestLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := &simKeying{}
		w.nodes[0].keying = k
		w.nodes[0].boot(100)
		defer w.stop()
		for _, tc := range []struct {
			role Role
			s    KeyingStatus
			want bool
		}{
			{wire.RoleBackup, KeyingStatus{State: "boot"}, false},
			{wire.RoleBackup, KeyingStatus{State: "boot", LoadsPolicies: true}, true},
			{wire.RoleBackup, KeyingStatus{State: "passivating", LoadsPolicies: true}, true},
			{wire.RoleBackup, KeyingStatus{State: "passivating", LoadsPolicies: true, Error: "no such file"}, false},
			{wire.RoleBackup, KeyingStatus{State: "passive", LoadsPolicies: true}, false},
			{wire.RoleMaster, KeyingStatus{State: "passive"}, true},
			{wire.RoleMaster, KeyingStatus{State: "activating"}, true},
			{wire.RoleMaster, KeyingStatus{State: "activating", Error: "no daemon"}, false},
			{wire.RoleMaster, KeyingStatus{State: "active"}, false},
		} {
			k.setStatus(tc.s)
			w.nodes[0].role(tc.role, 1)
			time.Sleep(time.Second)
			synctest.Wait()
			if got := w.ready(0).Loading; got != tc.want {
				t.Errorf("role %v, keying %+v: loading is %v", tc.role, tc.s, got)
			}
		}
	})
}
