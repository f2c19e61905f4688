package nodes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/harness/wire"
	"sasyncd/tests/scenario"
)

// state asks the daemons; who cannot answer is in no state.
func (g *gateway) state() (State, error) {
	var s State
	err := g.Call(callLimit, "Gateway.State", struct{}{}, &s)
	return s, err
}

func (g *gateway) waitState(what string, cond func(State) bool) {
	g.st.t.Helper()
	var heard string
	g.st.eventually(fmt.Sprintf("%s to be %s", g.name, what), func() (bool, string) {
		st, err := g.state()
		heard = fmt.Sprintf("%+v, error %v", st, err)
		return err == nil && cond(st), heard
	})
}

func (g *gateway) waitMaster() {
	g.st.t.Helper()
	g.waitState("MASTER", func(st State) bool { return st.Role == "MASTER" && st.Elected == api.StateMaster })
}

func (g *gateway) waitInSync() {
	g.st.t.Helper()
	g.waitState("BACKUP in sync", func(st State) bool {
		return st.Role == "BACKUP" && st.Elected == api.StateBackup && st.InSync && st.SAs > 0
	})
}

// waitFit waits until the one is master, and a failover to the other would work.
func (s *stage) waitFit(master, backup *gateway) {
	s.t.Helper()
	master.waitMaster()
	backup.waitInSync()
	master.waitState("content", func(st State) bool { return st.Fit })
}

func (s *stage) eventually(what string, cond func() (bool, string)) {
	s.t.Helper()
	heard := ""
	for start := time.Now(); time.Since(start) < waitLimit; time.Sleep(100 * time.Millisecond) {
		var ok bool
		if ok, heard = cond(); ok {
			return
		}
	}
	s.t.Fatalf("waited %v in vain for %s; last heard: %s", waitLimit, what, heard)
}

// flowing waits until n more packets have arrived on every flow.
func (s *stage) flowing(n int) {
	s.t.Helper()
	received := func() (k int) {
		s.call(s.world, "World.Received", struct{}{}, &k)
		return k
	}
	want := received() + n
	s.eventually(fmt.Sprintf("%d packets on every flow", n), func() (bool, string) {
		k := received()
		return k >= want, fmt.Sprintf("%d are missing", want-k)
	})
}

// now is the world's clock.
func (s *stage) now() (at time.Time) {
	s.t.Helper()
	s.call(s.world, "World.Now", struct{}{}, &at)
	return at
}

// gap is the longest gap of the traffic since then.
func (s *stage) gap(since time.Time) time.Duration {
	s.t.Helper()
	var r meter.Report
	s.call(s.world, "World.Since", since, &r)
	s.t.Logf("traffic: %v", r)
	return r.Gap
}

func (s *stage) requireGap(since time.Time, budget time.Duration) {
	s.t.Helper()
	if g := s.gap(since); g > budget {
		s.t.Errorf("the traffic stood still for %v, want at most %v", g, budget)
	}
}

func (s *stage) refused() (n int) {
	s.t.Helper()
	s.call(s.world, "World.Refused", struct{}{}, &n)
	return n
}

// requireClean is what holds after every drill: no number was sent twice, none
// was refused, nothing left in plaintext, both gateways have the same tables,
// and no daemon ended by itself.
func (s *stage) requireClean() {
	s.t.Helper()
	if n := s.refused(); n != 0 {
		s.t.Errorf("rgw has refused %d packets for their sequence numbers", n)
	}
	s.requireSound()
}

// requireSound is requireClean where the drill itself has packets refused.
func (s *stage) requireSound() {
	s.t.Helper()
	for _, f := range s.ledger.Faults() {
		s.t.Error(f)
	}
	var tables [2]scenario.Tables
	for i, g := range s.gw {
		s.call(g.Machine, "Gateway.Tables", struct{}{}, &tables[i])
	}
	for _, d := range scenario.Differences(tables[0], tables[1], s.gw[0].name, s.gw[1].name) {
		s.t.Error(d)
	}
	if want := 2*len(s.tunnels) + s.more; len(tables[0].States) != want {
		s.t.Errorf("%s has %d SAs, want %d", s.gw[0].name, len(tables[0].States), want)
	}
	for _, m := range []*harness.Machine{s.gw[0].Machine, s.gw[1].Machine, s.world} {
		service := "Gateway"
		if m == s.world {
			service = "World"
		}
		var list []string
		s.call(m, service+".Failures", struct{}{}, &list)
		for _, f := range list {
			s.t.Errorf("%s: %s", m.Name, f)
		}
	}
	for name, p := range s.ports {
		if n := p.Count(wire.In).Full; n > 0 {
			s.t.Logf("switch: %d frames to %s had no room", n, name)
		}
	}
}

// keep leaves behind what explains a failure.
func (s *stage) keep() {
	dir := harness.ArtifactDir()
	if !s.t.Failed() || dir == "" {
		return
	}
	name := filepath.Join(dir, strings.ReplaceAll(s.t.Name(), "/", "-"))
	if err := s.ledger.WriteFile(name + ".pcap"); err != nil {
		s.t.Logf("keep capture: %v", err)
	}
	for _, g := range s.gw {
		if g == nil || g.Machine == nil || !g.Running() {
			continue
		}
		_ = g.Thaw() // or it cannot tell
		var logs map[string]string
		if err := g.Call(callLimit, "Gateway.Logs", struct{}{}, &logs); err != nil {
			s.t.Logf("keep logs: %v", err)
			continue
		}
		for daemon, text := range logs {
			s.t.Logf("end of the log of %s %s:\n%s", g.name, daemon, text[max(0, len(text)-3000):])
			if err := os.WriteFile(name+"-"+g.name+"-"+daemon+".log", []byte(text), 0o600); err != nil {
				s.t.Logf("keep logs: %v", err)
			}
		}
	}
}
