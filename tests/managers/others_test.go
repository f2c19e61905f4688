package managers

import "testing"

// withoutUdev has netplan not mind that there is no udev.
const withoutUdev = "cp /usr/bin/true /usr/bin/udevadm && "

// TestNetplan: netplan writes systemd-networkd's files, and has it configure all interfaces
// anew: the lease of wan0 is given back.
func TestNetplan(t *testing.T) {
	s := newSite(t, "", map[string]string{"/etc/netplan/10-gateway.yaml": `network:
  version: 2
  renderer: networkd
  ethernets:
    wan0:
      dhcp4: true
      accept-ra: false
      addresses: [2001:db8::11/64]
      routes:
      - {to: 10.2.0.0/24, via: 192.0.2.100}
      - {to: fd00:2::/64, via: 2001:db8::100}
    lan0:
      accept-ra: false
      addresses: [10.1.0.11/24, "fd00:1::11/64"]
    sync0:
      accept-ra: false
      addresses: [10.9.0.11/24, "fd00:9::11/64"]
`}, "systemd-networkd.service")
	s.rows([]event{
		{what: "netplan apply, nothing changed", do: withoutUdev + "netplan apply", moves: true},
		{what: "netplan apply, a file changed", do: withoutUdev + "netplan set ethernets.lan0.mtu=1490 && netplan apply",
			moves: true},
	})
}

// TestIfupdown: Debian's networking.service and dhcpcd.
func TestIfupdown(t *testing.T) {
	s := newSite(t, "", map[string]string{"/etc/network/interfaces": `auto lo
iface lo inet loopback
auto wan0
iface wan0 inet dhcp
	up ip route replace 10.2.0.0/24 via 192.0.2.100
iface wan0 inet6 static
	address 2001:db8::11/64
	dad-attempts 0
	up ip route replace fd00:2::/64 via 2001:db8::100 dev wan0
auto lan0
iface lan0 inet static
	address 10.1.0.11/24
iface lan0 inet6 static
	address fd00:1::11/64
	dad-attempts 0
auto sync0
iface sync0 inet static
	address 10.9.0.11/24
`}, "networking.service")
	s.rows([]event{
		{what: "a renewal of the lease (half of 20 s)", do: "sleep 12", away: true},
		{what: "ifreload: ifup --force lan0", do: "ifup --force lan0 || true", away: true},
		{what: "ifdown lan0 && ifup lan0", do: "ifdown lan0 && ifup lan0", away: true, moves: true},
		{what: "systemctl restart networking", do: "systemctl restart networking", away: true, moves: true},
	})
}
