package check

import "slices"

// Situations is the catalogue.
func Situations() []Situation {
	return slices.Concat(sound(), daemons(), links(), instances(), segments(), settings(), machines(), replication(),
		trackers(), three(), encrypted())
}

// sound are arrangements in which nothing is wrong.
func sound() []Situation {
	return []Situation{
		{Name: "nothing is wrong", Where: "nowhere", Want: Yes, Quick: true},
		{Name: "nothing is wrong, CARP", Where: "nowhere", Election: CARP, Want: Yes},
		{Name: "nothing is wrong, unicast", Where: "nowhere", Edits: unicast(), Want: Yes},
		{Name: "nothing is wrong, signed advertisements", Where: "nowhere", Edits: signed("0x"+key1, "0x"+key1),
			Want: Yes},
		{Name: "nothing is wrong, virtual MAC addresses", Where: "nowhere", VirtualMAC: true,
			Edits: both("carpd.conf", "interval 250ms", "interval 250ms; mac virtual"), Want: Yes},
		{Name: "nothing is wrong, leases by nftables", Where: "nowhere", Edits: both("carpd.conf", "interval 250ms",
			"interval 250ms; lease nftables"), Want: Yes},
		{Name: "nothing is wrong, the better gateway comes back", Where: "nowhere", Edits: both("carpd.conf",
			"preempt no", "preempt yes"), Want: Yes},
	}
}

// daemons are daemons that are dead or hang.
func daemons() []Situation {
	return []Situation{
		{Name: "carpd is killed for good", Where: "standby", Fault: steps(kill(standby, "carpd")), Want: No,
			Code: "elector-lost", Quick: true},
		{Name: "carpd is killed for good and the other took over", Where: "MASTER", Fault: steps(kill(master, "carpd"),
			leads(standby)), Want: No, Code: "elector-lost", Quick: true},
		{Name: "carpd is stopped by its unit", Where: "standby", Fault: steps(term(standby, "carpd")), Want: No,
			Code: "elector-lost"},
		{Name: "carpd hangs", Where: "standby", Fault: steps(hang(standby, "carpd")), Want: No, Code: "elector-lost"},
		{Name: "carpd hangs and the other took over", Where: "MASTER", Fault: steps(hang(master, "carpd"),
			leads(standby)), Want: No, Code: "elector-lost"},
		{Name: "a second carpd was started", Where: "MASTER", Fault: steps(secondCarpd(master)), Want: Yes},
		{Name: "carpd cleanup was run", Where: "MASTER", Fault: steps(cleanup(master)), Want: Yes},
		{Name: "carpd cleanup was run", Where: "standby", Fault: steps(cleanup(standby)), Want: Yes},
		{Name: "sasyncd is killed for good", Where: "standby", Fault: steps(kill(standby, "sasyncd")), Want: No,
			Code: "peer-refused", Quick: true},
		{Name: "sasyncd is killed for good and the other took over", Where: "MASTER",
			Fault: steps(kill(master, "sasyncd"), leads(standby)), Want: No, Code: "peer-refused"},
		{Name: "sasyncd hangs", Where: "standby", Fault: steps(hang(standby, "sasyncd")), Want: No,
			Code: "peer-unreachable"},
		{Name: "sasyncd hangs", Where: "MASTER", Fault: steps(hang(master, "sasyncd")), Want: No,
			Code: "peer-unreachable",
			Why:  "the standby has what there was when contact was lost; what changes since would be lost"},
		{Name: "demoted by an operator", Where: "standby", Fault: steps(ctl(standby, "carpctl", "demote", "ipsec", "50",
			"maintenance")), Want: Yes},
		{Name: "frozen by an operator", Where: "standby", Fault: steps(ctl(standby, "carpctl", "freeze", "60")),
			Want: Yes},
		{Name: "demoted by a file", Where: "standby", Before: steps(write(standby, "demote", "20")),
			Edits: edits(edit(standby, "carpd.conf", "socket", "track file \"DIR/demote\" group ipsec\nsocket")),
			Want:  Yes},
		{Name: "demoted by an interface that does not exist", Where: "standby",
			Edits: edits(edit(standby, "carpd.conf", "socket", "track link dmz0 group ipsec demote 20\nsocket")),
			Want:  Yes},
	}
}

// links are cables and interfaces.
func links() []Situation {
	return []Situation{
		{Name: "the inside interface is down", Where: "standby", Fault: steps(run(standby, "ip link set lan0 down")),
			Want: No, Code: "not-backup", Quick: true},
		{Name: "the outside cable is unplugged", Where: "standby", Fault: steps(pull(standby, wanCable)), Want: No,
			Code: "not-backup"},
		{Name: "the inside cable is unplugged and the other took over", Where: "MASTER",
			Fault: steps(pull(master, lanCable), leads(standby)), Want: No, Code: "not-backup"},
		{Name: "the inside cable is in another network",
			Where: "standby", Fault: steps(fabric("ip link set dev lan-gw2 master rem")), Want: No,
			Code: "hears-no-master", Quick: true},
		{Name: "the inside interface was deleted", Where: "standby", Fault: steps(run(standby, "ip link del lan0")),
			Want: No, Code: "not-backup"},
		{Name: "the inside interface has no IPv4 address",
			Where: "standby", Fault: steps(run(standby, "ip -4 addr flush dev lan0")), Want: No},
		{Name: "IPv6 is disabled on the inside interface",
			Where: "standby", Fault: steps(sysctl(standby, "net/ipv6/conf/lan0/disable_ipv6=1")), Want: No},
	}
}

// instances are carpd.conf files that do not fit each other.
func instances() []Situation {
	standbys := func(from, to string) []Edit { return edits(edit(standby, "carpd.conf", from, to)) }
	return []Situation{
		{Name: "carpdev is misspelt", Where: "standby", Edits: standbys("carpdev lan0", "carpdev lan00"), Want: No,
			Code: "not-backup"},
		{Name: "a virtual IP is missing", Where: "standby", Edits: standbys("address 10.1.0.1/32; ", ""), Want: No,
			Code: "vips-differ", Quick: true},
		{Name: "a virtual IP is another one", Where: "standby", Edits: standbys("address 10.1.0.1/32",
			"address 10.1.0.2/32"), Want: No, Code: "vips-differ"},
		{Name: "the IPv6 virtual IPs are missing",
			Where: "standby", Edits: edits(edit(standby, "carpd.conf", "address fd00:1::1/128; ", ""),
				edit(standby, "carpd.conf", "address 2001:db8::1/128; ", "")), Want: No, Code: "vips-differ"},
		{Name: "the vrid of one instance differs", Where: "standby", Edits: standbys("vrid 11", "vrid 12"), Want: No,
			Code: "ids-differ", Quick: true},
		{Name: "the vrids of both instances differ", Where: "standby", Edits: standbys("vrid 1", "vrid 2"), Want: No,
			Code: "ids-differ"},
		{Name: "an instance is missing", Where: "standby",
			Edits: standbys("vrrp inside { carpdev lan0; vrid 11; priority 150; interval 250ms; address 10.1.0.1/32; "+
				"address fd00:1::1/128; group ipsec }", ""), Want: No, Code: "instance-missing"},
		{Name: "one gateway speaks VRRP 2", Where: "standby", Edits: edits(edit(standby, "carpd.conf", "interval 250ms",
			"interval 1s; version 2"),
			edit(standby, "carpd.conf", "address fd00:1::1/128; ", ""),
			edit(standby, "carpd.conf", "address 2001:db8::1/128; ", "")), Want: No},
		{Name: "one gateway speaks CARP", Where: "standby", Edits: edits(edit(standby, "carpd.conf", "vrrp outside",
			"carp outside"), edit(standby, "carpd.conf", "vrrp inside", "carp inside"),
			edit(standby, "carpd.conf", "vrid", "pass \"example\"; vhid"),
			edit(standby, "carpd.conf", "priority 150; interval 250ms", "advskew 10")), Want: No, Code: "ids-differ"},
		{Name: "the intervals differ", Where: "standby", Edits: standbys("interval 250ms", "interval 500ms"),
			Want: Yes},
		{Name: "equal priorities", Where: "both", Edits: standbys("priority 150", "priority 200"), Want: Yes,
			Code: "same-priority"},
		{Name: "the groups have different names", Where: "standby", Edits: standbys(" ipsec", " gate"), Want: Yes},
		{Name: "only one gateway signs advertisements", Where: "standby", Edits: standbys("interval 250ms",
			"interval 250ms; key 1 0x"+key1), Want: No},
		{Name: "the keys of advertisements differ", Where: "standby", Edits: signed("0x"+key1, "0x"+key2), Want: No},
		{Name: "only one gateway speaks unicast", Where: "standby", Edits: unicast()[2:], Want: No},
		{Name: "the password of CARP differs", Where: "standby", Election: CARP, Edits: standbys("example", "another"),
			Want: No},
		{Name: "a virtual IP is missing, CARP", Where: "standby", Election: CARP,
			Edits: standbys("address 10.1.0.1/32; ", ""), Want: No},
		{Name: "the witness does not answer", Where: "standby", Edits: standbys("preempt no",
			"preempt no; when-split witness 10.1.0.250"), Want: No, Code: "blocked"},
		{Name: "the start is held for an hour", Where: "standby", Edits: standbys("start-hold 300ms",
			"start-hold 3600s"), Want: No, Code: "blocked"},
		{Name: "a program that fences is required and does not run",
			Where: "standby", Edits: standbys("require sasyncd", "require sasyncd fence"), Want: No, Code: "blocked"},
	}
}

// segments are what else is on the network.
func segments() []Situation {
	return []Situation{
		{Name: "a foreign router with the same vrid and other addresses",
			Where: "inside", Fault: steps(foreign(250, "10.1.0.77")), Want: No, Code: "foreign-router"},
		{Name: "a foreign host has a virtual IP", Where: "inside", Fault: steps(squatter), Want: No},
		{Name: "the switch delivers no multicast to one port",
			Where: "standby", Fault: steps(fabric("bridge link set dev lan-gw2 mcast_flood off")), Want: No,
			Code: "hears-no-master"},
		{Name: "both gateways have the same MAC address outside", Where: "both", Fault: steps(sameMAC), Want: No,
			Code: "same-mac",
			Why: "this switch learns from each frame where the address is; what is sent meanwhile goes astray, and " +
				"other switches shut the port"},
	}
}

// settings are sasyncd.conf files that are wrong.
func settings() []Situation {
	standbys := func(from, to string) []Edit { return edits(edit(standby, "sasyncd.conf", from, to)) }
	return []Situation{
		{Name: "the address of the peer is wrong", Where: "both",
			Edits: append(standbys("peer 10.9.0.11", "peer 10.9.0.98"), edit(master, "sasyncd.conf", "peer 10.9.0.12",
				"peer 10.9.0.99")), Want: No},
		{Name: "the address of the peer is wrong on one gateway", Where: "standby", Edits: standbys("peer 10.9.0.11",
			"peer 10.9.0.98"), Want: No},
		{Name: "the shared keys differ", Where: "standby", Before: steps(otherKey(standby)), Want: No, Code: "peer-key",
			Quick: true},
		{Name: "they follow different instances", Where: "standby", Edits: standbys("interface outside",
			"interface inside"), Want: No},
		{Name: "sasyncd follows an instance that does not exist", Where: "standby", Edits: standbys("interface outside",
			"interface wan0"), Want: No},
		{Name: "the path of carpd's socket is wrong", Where: "standby", Edits: standbys("carpd.sock", "carp.sock"),
			Want: No, Code: "elector-lost"},
		{Name: "the IKE daemon does not run", Where: "standby", Edits: standbys("control none", "control strongswan"),
			Want: Yes, Code: "ike-absent"},
		{Name: "it is a clone of the other", Where: "standby", Fault: steps(clone), Want: No, Code: "peer-same-node"},
	}
}

// machines are settings of the system, and what other programs do.
func machines() []Situation {
	return []Situation{
		{Name: "IPv4 is not forwarded", Where: "standby", Fault: steps(sysctl(standby, "net/ipv4/ip_forward=0")),
			Want: No, Code: "forwarding-off", Quick: true},
		{Name: "IPv6 is not forwarded", Where: "standby", Fault: steps(sysctl(standby,
			"net/ipv6/conf/all/forwarding=0")), Want: No, Code: "forwarding-off"},
		{Name: "IPv4 is not forwarded from one interface",
			Where: "standby", Fault: steps(sysctl(standby, "net/ipv4/conf/lan0/forwarding=0")), Want: No,
			Code: "forwarding-off"},
		{Name: "rp_filter is strict", Where: "standby", Fault: steps(sysctl(standby, "net/ipv4/conf/lan0/rp_filter=1",
			"net/ipv4/conf/wan0/rp_filter=1")), Want: Yes},
		{Name: "arp_ignore hides all addresses", Where: "standby", Fault: steps(sysctl(standby,
			"net/ipv4/conf/lan0/arp_ignore=8")), Want: No},
		{Name: "a virtual IP is configured statically",
			Where: "standby", Fault: steps(run(standby, "ip addr add 10.1.0.1/24 dev lan0")), Want: No,
			Code: "vip-configured",
			Why:  "the address is answered for by both before the failover; this gateway is right to have it afterwards"},
		{Name: "a virtual IP is configured statically", Where: "MASTER",
			Fault: steps(run(master, "ip addr add 10.1.0.1/24 dev lan0")), Want: No, Code: "vip-configured"},
		{Name: "a virtual IP is deleted by hand", Where: "MASTER",
			Fault: steps(run(master, "ip addr del 10.1.0.1/32 dev lan0")), Want: Yes},
		{Name: "a rule silences a virtual IP, as the fence does",
			Where: "standby", Fault: steps(run(standby, "ip rule add pref 5 from 10.1.0.1 blackhole")), Want: No,
			Code: "rule-denies"},
		{Name: "a rule of another program silences a virtual IP",
			Where: "standby", Fault: steps(run(standby, "ip rule add pref 100 from 10.1.0.1 blackhole")), Want: No,
			Code: "rule-denies"},
		{Name: "a rule of another program drops what comes from inside",
			Where: "standby", Fault: steps(run(standby, "ip rule add pref 100 iif lan0 blackhole")), Want: No,
			Code: "rule-denies"},
		{Name: "the routing rules of IPv6 are flushed", Where: "MASTER",
			Fault: steps(run(master, "ip -6 rule flush", "ip -6 rule add pref 32766 lookup main")), Want: Yes},
		{Name: "the routing rules of IPv6 are flushed", Where: "standby", Fault: steps(run(standby, "ip -6 rule flush",
			"ip -6 rule add pref 32766 lookup main")), Want: Yes},
		{Name: "no routing rule leads to the main table",
			Where: "standby", Fault: steps(run(standby, "ip -6 rule flush")), Want: No, Code: "no-rules"},
		{Name: "the ruleset of nftables is flushed, leases by it", Where: "MASTER",
			Edits: both("carpd.conf", "interval 250ms", "interval 250ms; lease nftables"),
			Fault: steps(run(master, "nft flush ruleset")), Want: Yes},
		{Name: "the disk of the state directory is full", Where: "standby", Before: steps(stateDir(standby)),
			Edits: edits(ownState("carpd.conf"), ownState("sasyncd.conf")),
			Fault: steps(fill(standby)), Want: Yes},
		{Name: "the state directory is read-only", Where: "standby", Before: steps(stateDir(standby)),
			Edits: edits(ownState("carpd.conf"), ownState("sasyncd.conf")),
			Fault: steps(func(s *Site) { s.remount(standby) }), Want: Yes},
	}
}

// replication is what has, or has not, been replicated.
func replication() []Situation {
	return []Situation{
		{Name: "there is no tunnel at all", Where: "MASTER", NoTunnel: true, Want: Yes, Code: "no-tunnel"},
	}
}
