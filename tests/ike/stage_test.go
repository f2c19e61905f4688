package ike

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// stage is what sasyncd finds on its machine: its own /run, and programs in
// /usr/sbin that stand in for, or lead to, those of an IKE daemon.
type stage struct {
	*lab.Node
	programs map[string]string // shell scripts by name
}

// run is the directory that is /run there.
func (s *stage) run() string { return filepath.Join(s.Dir(), "run") }

// sbin is where the real /usr/sbin is found.
func (s *stage) sbin() string { return filepath.Join(s.Dir(), "sbin.orig") }

// enter is the start of a shell script that is on the stage, in a mount
// namespace of its own.
func (s *stage) enter(t *testing.T) string {
	t.Helper()
	script := inRun(s.Node)
	if len(s.programs) == 0 {
		return script
	}
	ours := filepath.Join(s.Dir(), "sbin")
	script += fmt.Sprintf("set -e; mkdir -p %[1]s %[2]s; mount --bind /usr/sbin %[1]s; ln -sf %[1]s/* %[2]s/; ",
		s.sbin(), ours)
	for _, name := range slices.Sorted(maps.Keys(s.programs)) {
		file := s.WriteFile("program-"+name, "#!/bin/sh\n"+s.programs[name])
		if err := os.Chmod(file, 0o700); err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("ln -sf %s %s/%s; ", file, ours, name)
	}
	return script + "mount --bind " + ours + " /usr/sbin; set +e; "
}

// startOn starts carpd, and a sasyncd on the stage that controls what is there.
func startOn(t *testing.T, p *scenario.Pair, m *scenario.Member, s *stage, control string) {
	t.Helper()
	m.StartCarpd()
	lab.Eventually(t, limit, "carpd of "+m.Name+" to answer", func() bool { _, err := m.Elected(); return err == nil })
	conf := "interface " + scenario.Instance + "\n"
	for _, o := range p.Members {
		if o != m {
			conf += fmt.Sprintf("peer %s\n", o.SyncAddr)
		}
	}
	conf += fmt.Sprintf("listen on %s\nsharedkey file %q\ncontrol %s\nsocket %q\ncarpd socket %q\nstatedir %q\n",
		m.SyncAddr, m.WriteFile("sasyncd.key", m.Key+"\n"), control, m.Socket(), m.Dir()+"/carpd.sock",
		m.Dir()+"/sasyncd.state")
	bin, err := harness.Binary("sasyncd")
	if err != nil {
		t.Fatal(err)
	}
	m.Sasyncd = m.Exec("sasyncd", exec.Command("unshare", "-m", "sh", "-c",
		s.enter(t)+"exec "+bin+" -dc "+m.WriteFile("sasyncd.conf", conf)))
	lab.Eventually(t, limit, "sasyncd of "+m.Name+" to answer", func() bool { _, err := m.Status(); return err == nil })
}
