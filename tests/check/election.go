package check

import (
	"fmt"
	"os/exec"
	"path/filepath"

	"sasyncd/tests/harness/lab"
)

// linkName is the interface whose state is the election of [Link].
const linkName = "role0"

// keepalivedConf has the addresses that carpd would have: a router on each side in
// one sync group, IPv6 beside.
func (m *Member) keepalivedConf() string {
	router := func(name, dev string, id int, a, b any) string {
		return fmt.Sprintf(`vrrp_instance %s {
	state BACKUP
	nopreempt
	interface %s
	virtual_router_id %d
	priority %d
	version 3
	advert_int 0.25
	virtual_ipaddress {
		%v/32
	}
	virtual_ipaddress_excluded {
		%v/128
	}
}
`, name, dev, id, m.priority, a, b)
	}
	return fmt.Sprintf("global_defs {\n\trouter_id %s\n\tvrrp_notify_fifo %s/fifo\n}\n", m.Name, m.Dir()) +
		"vrrp_sync_group ipsec {\n\tgroup {\n\t\toutside\n\t\tinside\n\t}\n}\n" +
		router("outside", "wan0", 10, lab.VIPOut, lab.VIPOut6) + router("inside", "lan0", 11, lab.VIPIn, lab.VIPIn6)
}

func (m *Member) startKeepalived() {
	m.site.t.Helper()
	m.Other = m.Exec("keepalived", exec.Command("/usr/sbin/keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp",
		"-f", m.write("keepalived.conf"), "-p", filepath.Join(m.Dir(), "keepalived.pid"), "-r", filepath.Join(m.Dir(), "vrrp.pid")))
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
