package managers

import (
	"fmt"
	"testing"
)

// network returns a .network file of systemd-networkd for gw1.
func network(dev, addresses, extra string) string {
	return fmt.Sprintf("[Match]\nName=%s\n[Network]\nIPv6AcceptRA=no\n%s%s", dev, addresses, extra)
}

// networkdFiles configure gw1's network: its outside IPv4 address comes by DHCP. Keep is
// a further line of the section Network.
func networkdFiles(keep string) map[string]string {
	return map[string]string{
		"/etc/systemd/network/10-wan0.network": network("wan0", "DHCP=ipv4\nAddress=2001:db8::11/64\n"+keep,
			"[Route]\nDestination=10.2.0.0/24\nGateway=192.0.2.100\n[Route]\nDestination=fd00:2::/64\n"+
				"Gateway=2001:db8::100\n"),
		"/etc/systemd/network/10-lan0.network":  network("lan0", "Address=10.1.0.11/24\nAddress=fd00:1::11/64\n"+keep, ""),
		"/etc/systemd/network/10-sync0.network": network("sync0", "Address=10.9.0.11/24\nAddress=fd00:9::11/64\n"+keep, ""),
	}
}

// touch changes a .network file, so that reload has something to do.
const touch = "printf '[Network]\\nLLDP=no\\n' >/etc/systemd/network/10-wan0.network.d/a.conf"

// TestNetworkd: systemd-networkd as it comes, and with KeepConfiguration=, which the
// documentation advises.
func TestNetworkd(t *testing.T) {
	for name, keep := range map[string]string{"plain": "", "KeepConfiguration=static": "KeepConfiguration=static\n",
		"KeepConfiguration=yes": "KeepConfiguration=yes\n"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "", networkdFiles(keep), "systemd-networkd.service")
			kept, repaired := name == "KeepConfiguration=yes", "address"
			if kept {
				repaired = ""
			}
			s.rows([]event{
				{what: "systemctl restart systemd-networkd", do: "systemctl restart systemd-networkd", away: true,
					repaired: repaired},
				{what: "networkctl reload, nothing changed", do: "networkctl reload", away: true},
				{what: "networkctl reload, a file changed", do: "mkdir -p /etc/systemd/network/10-wan0.network.d && " +
					touch + " && networkctl reload", away: true},
				// Unless it is told to keep it, it gives the lease back, and a gateway without an address of its own is no MASTER.
				{what: "networkctl reconfigure wan0", do: "networkctl reconfigure wan0", away: true,
					moves: !kept},
				{what: "networkctl reconfigure lan0", do: "networkctl reconfigure lan0", away: true},
				{what: "networkctl renew wan0", do: "networkctl renew wan0", away: true},
				{what: "a renewal of the lease (half of 20 s)", do: "sleep 12", away: true},
				{what: "networkctl forcerenew", do: "networkctl forcerenew wan0 || true", away: true},
			})
		})
	}
}
