package main

import (
	"syscall"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// fault is one thing that may happen. do makes it and ends it, and returns when
// all is plugged in and running again; how long that may take is its own choice.
type fault struct {
	what string
	on   string // "master", "backup" or "" for either
	do   func(s *soak, m *scenario.Member)
}

var faults = []fault{
	{"kill -9 of carpd", "master", killCarpd},
	{"kill -9 of carpd", "backup", killCarpd},
	{"kill -9 of sasyncd", "master", killSasyncd},
	{"kill -9 of sasyncd", "backup", killSasyncd},
	{"kill -9 of both daemons", "master", func(s *soak, m *scenario.Member) {
		m.Carpd.Kill()
		m.Sasyncd.Kill()
		s.pause(1, 5)
		m.StartCarpd()
		m.StartSasyncd()
	}},
	{"power cut", "master", func(s *soak, m *scenario.Member) { powerCut(s, m, false) }},
	{"power cut and reboot", "master", func(s *soak, m *scenario.Member) { powerCut(s, m, true) }},
	{"power cut and reboot", "backup", func(s *soak, m *scenario.Member) { powerCut(s, m, true) }},
	{"restart of sasyncd", "", func(s *soak, m *scenario.Member) {
		m.Sasyncd.Term(termLimit)
		m.StartSasyncd()
	}},
	{"restart of carpd", "", func(s *soak, m *scenario.Member) {
		m.Carpd.Term(termLimit)
		m.StartCarpd()
	}},
	{"sasyncd stopped and continued", "", func(s *soak, m *scenario.Member) {
		m.Sasyncd.Signal(syscall.SIGSTOP)
		s.pause(1, 6)
		m.Sasyncd.Signal(syscall.SIGCONT)
	}},
	{"resign", "master", func(_ *soak, m *scenario.Member) { m.Resign() }},
	{"sync link cut", "", func(s *soak, m *scenario.Member) { pull(s, m, m.Sync) }},
	// Of two, what one sends is what the other receives.
	{"sync link cut, inwards only", "master", deafen},
	{"sync link cut, inwards only", "backup", deafen},
	{"sync link with 50 ms and 5 % loss", "", func(s *soak, m *scenario.Member) {
		m.Sync.Impair(50*time.Millisecond, 10*time.Millisecond, 5)
		s.pause(5, 20)
		m.Sync.Unblock(lab.In)
	}},
	{"WAN cut", "master", func(s *soak, m *scenario.Member) { pull(s, m, m.WAN) }},
	{"LAN cut", "master", func(s *soak, m *scenario.Member) { pull(s, m, m.LAN) }},
	{"WAN cut", "backup", func(s *soak, m *scenario.Member) { pull(s, m, m.WAN) }},
	{"flush of all SAs", "backup", func(_ *soak, m *scenario.Member) { m.Run("ip xfrm state flush") }},
	{"flush of all SAs and policies", "backup", func(_ *soak, m *scenario.Member) { m.Forget() }},
	{"deletion of all tunnels, negotiated anew 4 s later", "master", func(s *soak, m *scenario.Member) {
		s.churn.mu.Lock()
		defer s.churn.mu.Unlock()
		if s.churn.on == m {
			s.churn.drop(m)
			time.Sleep(4 * time.Second) // longer than deletions are held back
		}
		s.churn.anew(m)
	}},
}

// termLimit is how long an orderly end may take.
const termLimit = 20 * time.Second

func killCarpd(s *soak, m *scenario.Member) {
	m.Carpd.Kill()
	s.pause(0, 4)
	m.StartCarpd()
}

func killSasyncd(s *soak, m *scenario.Member) {
	m.Sasyncd.Kill()
	s.pause(0, 6)
	m.StartSasyncd()
}

func powerCut(s *soak, m *scenario.Member, forget bool) {
	m.Off()
	s.pause(2, 8)
	if forget {
		m.Forget()
	}
	m.Boot()
	m.StartCarpd()
	m.StartSasyncd()
	m.PowerOn()
}

func pull(s *soak, _ *scenario.Member, p *lab.Port) {
	p.Pull()
	s.pause(1, 12)
	p.Replug()
}

func deafen(s *soak, m *scenario.Member) {
	m.Sync.Block(lab.In)
	s.pause(1, 12)
	m.Sync.Unblock(lab.In)
}

// pause waits for a random time between two bounds in seconds.
func (s *soak) pause(from, to float64) {
	time.Sleep(time.Duration((from + s.r.Float64()*(to-from)) * float64(time.Second)))
}
