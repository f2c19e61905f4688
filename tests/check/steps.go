package check

import (
	"syscall"

	"sasyncd/tests/harness/lab"
)

// steps makes a list of what is often one step.
func steps(list ...Step) []Step { return list }

// edit is one change of a gateway's configuration.
func edit(gateway int, file, from, to string) Edit { return Edit{gateway, file, from, to} }

func edits(list ...Edit) []Edit { return list }

// daemon returns a gateway's daemon by its name.
func (m *Member) daemon(name string) *lab.Daemon {
	switch name {
	case "carpd":
		return m.Carpd
	case "sasyncd":
		return m.Sasyncd
	}
	return m.Other
}

// kill ends a daemon for good.
func kill(gateway int, daemon string) Step {
	return func(s *Site) { s.Members[gateway].daemon(daemon).Kill() }
}

// term ends a daemon as systemd does.
func term(gateway int, daemon string) Step {
	return func(s *Site) { s.Members[gateway].daemon(daemon).Term(startLimit) }
}

// hang stops a daemon: it is there and does nothing.
func hang(gateway int, daemon string) Step {
	return func(s *Site) {
		m := s.Members[gateway]
		m.daemon(daemon).Signal(syscall.SIGSTOP)
		m.hangs = m.hangs || daemon == "sasyncd"
	}
}

// mayEnd says that a daemon may end by itself.
func mayEnd(gateway int, daemon string) Step {
	return func(s *Site) { s.Members[gateway].daemon(daemon).MayExit() }
}

// run runs command lines on a gateway.
func run(gateway int, lines ...string) Step {
	return func(s *Site) {
		for _, l := range lines {
			s.Members[gateway].Run(l)
		}
	}
}

// fabric runs a command line where the switches are.
func fabric(line string) Step {
	return func(s *Site) { s.Fabric().Run(line) }
}

// leads waits until a gateway is the only MASTER.
func leads(gateway int) Step {
	return func(s *Site) {
		m := s.Members[gateway]
		s.await(startLimit, m.Name+" is the only MASTER", func() bool {
			list := s.masters()
			return len(list) == 1 && list[0] == m
		})
	}
}

// sysctl sets settings of a gateway's kernel.
func sysctl(gateway int, settings ...string) Step {
	return func(s *Site) { s.Members[gateway].Sysctl(settings...) }
}

// pull unplugs a gateway's cable.
func pull(gateway int, cable func(*Member) *lab.Port) Step {
	return func(s *Site) { cable(s.Members[gateway]).Pull() }
}

func lanCable(m *Member) *lab.Port  { return m.LAN }
func wanCable(m *Member) *lab.Port  { return m.WAN }
func syncCable(m *Member) *lab.Port { return m.Sync }

// ctl runs a control program that must succeed.
func ctl(gateway int, program string, args ...string) Step {
	return func(s *Site) {
		m := s.Members[gateway]
		socket := m.carpdSocket()
		if program == "sasyncctl" {
			socket = m.socket()
		}
		if out, code := m.ctl(program, append([]string{"-s", socket}, args...)...); code != 0 {
			s.t.Fatalf("%s: %s %v: %s", m.Name, program, args, out)
		}
	}
}
