package check

// trackers are elections other than carpd's.
func trackers() []Situation {
	return []Situation{
		{Name: "nothing is wrong", Where: "nowhere", Election: Keepalived, Want: Yes},
		{Name: "keepalived is killed for good", Where: "standby", Election: Keepalived,
			Fault: steps(killKeepalived(standby)), Want: No, Code: "elector-lost"},
		{Name: "IPv4 is not forwarded", Where: "standby", Election: Keepalived,
			Fault: steps(sysctl(standby, "net/ipv4/ip_forward=0")), Want: No, Code: "forwarding-off"},
		{Name: "nothing is wrong", Where: "nowhere", Election: Address, Want: Unknown, Code: "election-unknown"},
		{Name: "keepalived is killed for good", Where: "standby", Election: Address,
			Fault: steps(killKeepalived(standby)), Want: Unknown, Code: "election-unknown"},
		{Name: "nothing is wrong", Where: "nowhere", Election: Link, Want: Unknown, Code: "election-unknown"},
		{Name: "the sync link is cut", Where: "both", Election: Link, Fault: steps(pull(standby, syncCable)), Want: No},
	}
}

// three are situations of three gateways.
func three() []Situation {
	return []Situation{
		{Name: "nothing is wrong, three gateways", Where: "nowhere", Gateways: 3, Want: Yes},
		{Name: "carpd of one standby is killed for good", Where: "standby", Gateways: 3,
			Fault: steps(kill(standby, "carpd")), Want: Yes, Code: "elector-lost"},
		{Name: "carpd of both standbys is killed for good", Where: "both standbys", Gateways: 3,
			Fault: steps(kill(standby, "carpd"), kill(third, "carpd")), Want: No, Code: "elector-lost"},
		{Name: "one standby is cut off from the sync link", Where: "standby", Gateways: 3,
			Fault: steps(pull(standby, syncCable)), Want: No,
			Why: "the gateway that is cut off can see no other one; the others say yes"},
		{Name: "the better standby does not forward", Where: "standby", Gateways: 3,
			Fault: steps(sysctl(standby, "net/ipv4/ip_forward=0")), Want: No, Code: "forwarding-off"},
		{Name: "the lesser standby does not forward", Where: "third", Gateways: 3,
			Fault: steps(sysctl(third, "net/ipv4/ip_forward=0")), Want: Yes, Code: "forwarding-off"},
		{Name: "the better standby lacks a virtual IP", Where: "standby", Gateways: 3,
			Edits: edits(edit(standby, "carpd.conf", "address 10.1.0.1/32; ", "")), Want: No, Code: "vips-differ"},
		{Name: "the inside cable of the better standby is in another network", Where: "standby", Gateways: 3,
			Fault: steps(fabric("ip link set dev lan-gw2 master rem")), Want: No, Code: "hears-no-master"},
		{Name: "the inside interface of one standby is down", Where: "standby", Gateways: 3,
			Fault: steps(run(standby, "ip link set lan0 down")), Want: Yes, Code: "not-backup"},
		{Name: "the sync address of one gateway is wrong on another", Where: "standby", Gateways: 3,
			Edits: edits(edit(standby, "sasyncd.conf", "peer 10.9.0.13", "peer 10.9.0.98")), Want: Yes},
	}
}
