package check

import "slices"

// Situations is the catalogue.
func Situations() []Situation {
	return slices.Concat(sound(), daemons(), links(), configurations(), machines(), replication(), trackers(), three())
}

// sound are arrangements in which a failover works.
func sound() []Situation {
	return []Situation{
		{Name: "nothing is wrong", Where: "nowhere", Want: Yes, Quick: true},
		{Name: "nothing is wrong, CARP", Where: "nowhere", Election: CARP, Want: Yes},
		{Name: "nothing is wrong, three gateways", Where: "nowhere", Gateways: 3, Want: Yes},
	}
}

// daemons are daemons that are dead, hang, or were told something.
func daemons() []Situation {
	return []Situation{
		{Name: "carpd is killed for good", Where: "standby", Fault: steps(kill(standby, "carpd")), Want: No, Code: "elector-lost", Quick: true},
		{Name: "carpd is killed for good and the other took over", Where: "MASTER", Fault: steps(kill(master, "carpd")), Want: No, Code: "elector-lost", Quick: true},
		{Name: "carpd is stopped by its unit", Where: "standby", Fault: steps(term(standby, "carpd")), Want: No, Code: "elector-lost"},
		{Name: "carpd hangs", Where: "standby", Fault: steps(hang(standby, "carpd")), Want: No, Code: "elector-lost"},
		{Name: "carpd hangs and the other took over", Where: "MASTER", Fault: steps(hang(master, "carpd")), Want: No, Code: "elector-lost"},
		{Name: "sasyncd is killed for good", Where: "standby", Fault: steps(kill(standby, "sasyncd")), Want: No, Code: "peer-refused"},
		{Name: "sasyncd is killed for good and the other took over", Where: "MASTER", Fault: steps(kill(master, "sasyncd")), Want: No, Code: "peer-refused"},
		{Name: "sasyncd hangs", Where: "standby", Fault: steps(hang(standby, "sasyncd")), Want: No, Code: "peer-unreachable"},
		{Name: "demoted by an operator", Where: "standby", Fault: steps(ctl(standby, "carpctl", "demote", "ipsec", "50", "maintenance")), Want: Yes},
		{Name: "frozen by an operator", Where: "standby", Fault: steps(ctl(standby, "carpctl", "freeze", "60s")), Want: Yes},
	}
}

// links are cables and interfaces.
func links() []Situation {
	return []Situation{
		{Name: "the inside interface is down", Where: "standby", Fault: steps(run(standby, "ip link set lan0 down")), Want: No, Code: "not-backup", Quick: true},
		{Name: "the outside cable is unplugged", Where: "standby", Fault: steps(pull(standby, wanCable)), Want: No, Code: "not-backup"},
		{Name: "the inside cable is unplugged and the other took over", Where: "MASTER", Fault: steps(pull(master, lanCable)), Want: No, Code: "not-backup"},
		{Name: "the inside cable is in another network", Where: "standby", Fault: steps(fabric("ip link set dev lan-gw2 master rem")), Want: No, Code: "hears-no-master", Quick: true},
		{Name: "the sync link is cut", Where: "both", Fault: steps(pull(standby, syncCable)), Want: No, Code: "peer-unreachable", Quick: true},
	}
}

// configurations are files that are wrong.
func configurations() []Situation {
	return []Situation{
		{Name: "carpdev is misspelt", Where: "standby", Edits: edits(edit(standby, "carpd.conf", "carpdev lan0", "carpdev lan00")), Want: No, Code: "not-backup"},
		{Name: "a virtual IP is missing", Where: "standby", Edits: edits(edit(standby, "carpd.conf", "address 10.1.0.1/32; ", "")), Want: No, Code: "vips-differ", Quick: true},
		{Name: "a virtual IP is another one", Where: "standby", Edits: edits(edit(standby, "carpd.conf", "address 10.1.0.1/32", "address 10.1.0.2/32")), Want: No, Code: "vips-differ"},
		{Name: "the vrid of one instance differs", Where: "standby", Edits: edits(edit(standby, "carpd.conf", "vrid 11", "vrid 12")), Want: No, Code: "ids-differ", Quick: true},
		{Name: "the vrids of both instances differ", Where: "standby", Edits: edits(edit(standby, "carpd.conf", "vrid 1", "vrid 2")), Want: No},
		{Name: "equal priorities", Where: "both", Edits: edits(edit(standby, "carpd.conf", "priority 150", "priority 200")), Want: Yes, Code: "same-priority"},
		{Name: "the address of the peer is wrong", Where: "both",
			Edits: edits(edit(master, "sasyncd.conf", "peer 10.9.0.12", "peer 10.9.0.99"), edit(standby, "sasyncd.conf", "peer 10.9.0.11", "peer 10.9.0.98")), Want: No, Code: "peer-unreachable"},
		{Name: "the shared keys differ", Where: "standby", Edits: edits(edit(standby, "sasyncd.key", "0x", "0xab")), Want: No, Code: "peer-key", Quick: true},
	}
}

// machines are settings of the system, and what other programs do.
func machines() []Situation {
	return []Situation{
		{Name: "IPv4 is not forwarded", Where: "standby", Fault: steps(sysctl(standby, "net/ipv4/ip_forward=0")), Want: No, Code: "forwarding-off", Quick: true},
		{Name: "IPv6 is not forwarded", Where: "standby", Fault: steps(sysctl(standby, "net/ipv6/conf/all/forwarding=0")), Want: No, Code: "forwarding-off"},
	}
}

func replication() []Situation { return nil }
func trackers() []Situation    { return nil }
func three() []Situation       { return nil }
