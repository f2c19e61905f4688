package check

import (
	"os/exec"
	"path/filepath"

	"sasyncd/tests/harness/lab"
)

// linkName is the interface whose state is the election of [Link].
const linkName = "role0"

func (m *Member) startKeepalived() {
	m.site.t.Helper()
	m.Other = m.Exec("keepalived", exec.Command("/usr/sbin/keepalived", "--dont-fork", "--log-console", "--log-detail",
		"--vrrp",
		"-f", m.write("keepalived.conf"), "-p", filepath.Join(m.Dir(), "keepalived.pid"), "-r",
		filepath.Join(m.Dir(), "vrrp.pid")))
}

// addLink gives a gateway the interface of [Link]. The first gateway has the role.
func (m *Member) addLink() {
	m.site.t.Helper()
	m.IP("link add "+linkName+" type bridge", "link set "+linkName+" down")
	if m.n == master {
		m.take()
	}
}

// take is what a script does that makes a gateway MASTER.
func (m *Member) take() {
	m.site.t.Helper()
	m.SetVIPs()
	m.IP("link set " + linkName + " up")
	for _, nd := range []*lab.Node{m.site.H1, m.site.RGW} { // as announcements do
		nd.Run("ip neigh flush all")
		nd.Run("ip -6 neigh flush all")
	}
}

// move has the script give the role to the next gateway.
func (s *Site) move(old *Member) {
	s.t.Helper()
	if on(old.Sasyncd) {
		old.IP("link set " + linkName + " down")
		old.DropVIPs()
	}
	s.Members[(old.n+1)%len(s.Members)].take()
}
