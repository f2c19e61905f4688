package scenario

import (
	"fmt"
	"net/netip"

	"sasyncd/tests/harness/lab"
)

// KeepalivedConf returns the configuration with which keepalived has the addresses that
// carpd would have on the gateway name: a router on each side in one sync group, IPv6
// beside. Its events go to the fifo in dir.
func KeepalivedConf(name, dir string, priority int) string {
	router := func(instance, dev string, id int, a, b netip.Addr) string {
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
`, instance, dev, id, priority, a, b)
	}
	return fmt.Sprintf("global_defs {\n\trouter_id %s\n\tvrrp_notify_fifo %s/fifo\n}\n", name, dir) +
		"vrrp_sync_group ipsec {\n\tgroup {\n\t\toutside\n\t\tinside\n\t}\n}\n" +
		router("outside", "wan0", 10, lab.VIPOut, lab.VIPOut6) + router("inside", "lan0", 11, lab.VIPIn, lab.VIPIn6)
}
