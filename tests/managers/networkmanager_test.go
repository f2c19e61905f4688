package managers

import (
	"fmt"
	"testing"
)

// connection returns a keyfile of NetworkManager for an interface of gw1.
func connection(dev, ipv4, ipv6 string) string {
	return fmt.Sprintf("[connection]\nid=%[1]s\nuuid=00000000-0000-4000-8000-0000%08[2]x\ntype=ethernet\n"+
		"interface-name=%[1]s\n[ipv4]\n%[3]s\n[ipv6]\n%[4]s\n", dev, []byte(dev)[:4], ipv4, ipv6)
}

// networkManagerFiles configure gw1's network: its outside IPv4 address comes by DHCP.
func networkManagerFiles(conf string) map[string]string {
	const dir = "/etc/NetworkManager/system-connections/"
	return map[string]string{
		dir + "wan0.nmconnection": connection("wan0", "method=auto\nnever-default=true\nroute1=10.2.0.0/24,192.0.2.100",
			"method=manual\naddress1=2001:db8::11/64\nroute1=fd00:2::/64,2001:db8::100"),
		dir + "lan0.nmconnection": connection("lan0", "method=manual\naddress1=10.1.0.11/24",
			"method=manual\naddress1=fd00:1::11/64"),
		dir + "sync0.nmconnection": connection("sync0", "method=manual\naddress1=10.9.0.11/24",
			"method=manual\naddress1=fd00:9::11/64"),
		"/etc/NetworkManager/conf.d/10-test.conf": conf,
	}
}

// TestNetworkManager: all interfaces are its own. What has it set one down and up moves the
// mastership.
func TestNetworkManager(t *testing.T) {
	s := newSite(t, "", networkManagerFiles(""), "NetworkManager.service")
	s.rows([]event{
		{what: "systemctl restart NetworkManager", do: "systemctl restart NetworkManager && nm-online -q -t 20", away: true},
		{what: "nmcli connection reload", do: "nmcli connection reload", away: true},
		{what: "nmcli general reload", do: "nmcli general reload", away: true},
		{what: "nmcli device reapply wan0", do: "nmcli device reapply wan0", away: true},
		{what: "nmcli device reapply lan0", do: "nmcli device reapply lan0", away: true},
		{what: "nmcli device modify lan0", do: "nmcli device modify lan0 +ipv4.addresses 10.1.0.77/24",
			moves: true},
		{what: "nmcli connection up wan0", do: "nmcli connection up wan0", moves: true},
		{what: "nmcli connection up lan0", do: "nmcli connection up lan0", moves: true},
		{what: "a renewal of the lease (half of 20 s)", do: "sleep 12", away: true},
	})
}
