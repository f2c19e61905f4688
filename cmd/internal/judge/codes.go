package judge

import "sasyncd/sync/peer"

// Code names a kind of finding. Codes stay the same over releases.
type Code string

// Codes of findings.
const (
	NoPeer          Code = "no-peer"
	PeerKey         Code = "peer-key"
	PeerVersion     Code = "peer-version"
	PeerSameNode    Code = "peer-same-node"
	PeerRefused     Code = "peer-refused"
	PeerUnreachable Code = "peer-unreachable"
	PeerAway        Code = "peer-away"
	LinkCut         Code = "link-cut"
	OldPeer         Code = "old-peer"
	NoReport        Code = "no-report"
	NoGroup         Code = "no-group"
	NotInGroup      Code = "not-in-group"
	NoMaster        Code = "no-master"
	TwoMasters      Code = "two-masters"
	NoStandby       Code = "no-standby"
	ElectorLost     Code = "elector-lost"
	NotBackup       Code = "not-backup"
	Blocked         Code = "blocked"
	HearsNoMaster   Code = "hears-no-master"
	AdvertRefused   Code = "advertisement-refused"
	MasterFenced    Code = "master-fenced"
	Held            Code = "held"
	VIPMissing      Code = "vip-missing"
	VIPsDiffer      Code = "vips-differ"
	InstanceMissing Code = "instance-missing"
	IDsDiffer       Code = "ids-differ"
	SamePriority    Code = "same-priority"
	ForwardingOff   Code = "forwarding-off"
	NotFollowing    Code = "not-following"
	Receiving       Code = "receiving"
	Lags            Code = "lags"
	NotInSync       Code = "not-in-sync"
	Refused         Code = "refused"
	RefusedHA       Code = "refused-ha"
	Unlike          Code = "unlike-kernel"
	Reduced         Code = "reduced-kernel"
	Uncovered       Code = "uncovered"
	Offloaded       Code = "offloaded"
	NoTunnel        Code = "no-tunnel"
	Emptied         Code = "emptied"
	StaticKeys      Code = "static-keys"
	IKEError        Code = "ike-error"
	IKESetting      Code = "ike-setting"
	IKEUnknown      Code = "ike-unknown"
	IKEAbsent       Code = "ike-absent"
	Locked          Code = "locked"
	ElectionUnknown Code = "election-unknown"
	NotReplicated   Code = "not-replicated"
	VIPClaimed      Code = "vip-claimed"
	VIPSilent       Code = "vip-silent"
	VIPConfigured   Code = "vip-configured"
	SameMAC         Code = "same-mac"
	SameAddress     Code = "same-address"
	ForeignRouter   Code = "foreign-router"
	Demoted         Code = "demoted"
	MasterDemoted   Code = "master-demoted"
	Repaired        Code = "repaired"
	CannotRepair    Code = "cannot-repair"
	ARPHidden       Code = "arp-hidden"
	RuleDenies      Code = "rule-denies"
	NoRules         Code = "no-rules"
	StrictFilter    Code = "strict-filter"
	HostSetting     Code = "host-setting"
	StateUnwritable Code = "state-unwritable"
	LeakGuard       Code = "leak-guard"
	LeakStopped     Code = "leak-stopped"
	ClockDiffers    Code = "clock-differs"
	PeersDiffer     Code = "peers-differ"
	PeersApart      Code = "peers-apart"
	MasterUnheard   Code = "master-unheard"
)

// unconnected are the codes for why there is no session.
var unconnected = map[peer.Trouble]Code{
	peer.TroubleOther: PeerAway, peer.TroubleKey: PeerKey, peer.TroubleVersion: PeerVersion,
	peer.TroubleSame:    PeerSameNode,
	peer.TroubleRefused: PeerRefused, peer.TroubleUnreachable: PeerUnreachable,
}

// kinds has the severity of each code, and what to do.
var kinds = map[Code]struct {
	severity Severity
	remedy   string
}{
	NoPeer:          {Fails, "name the other gateways by `peer` in sasyncd.conf"},
	PeerKey:         {Fails, "the shared keys differ: compare `sha256sum` of the key files on both gateways"},
	PeerVersion:     {Fails, "upgrade the older gateway"},
	PeerSameNode:    {Fails, "give each gateway a state directory of its own: one is a clone of the other"},
	PeerRefused:     {Fails, "systemctl start sasyncd there; if it runs, see its `listen on` and port"},
	PeerUnreachable: {Fails, "see cable, addresses and firewall between the gateways: TCP to its port"},
	PeerAway:        {Fails, "see the log of both gateways: address, port 500, shared key, firewall"},
	LinkCut:         {Costs, "see cable, addresses and firewall between the two: TCP to their ports"},
	OldPeer:         {Unknown, "upgrade it; until then run `sasyncctl check` and `carpctl doctor` there"},
	NoReport:        {Unknown, "run `sasyncctl check` there; see its log"},
	NoGroup:         {Fails, "write `interface` with an instance of carpd.conf into sasyncd.conf"},
	NotInGroup:      {Costs, "if it should, write the same `interface` into its sasyncd.conf"},
	NoMaster:        {Fails, "carpctl show, and carpctl doctor, on each gateway"},
	TwoMasters: {Fails, "the election is split: check the links that carry the advertisements; carpctl doctor " +
		"on each"},
	NoStandby: {Fails, "start carpd and sasyncd on the other gateway"},
	ElectorLost: {Fails, "systemctl restart carpd there (with another tracker: what it follows); journalctl " +
		"-u carpd"},
	NotBackup:       {Fails, "carpctl show there; ip link, ip address of the instance's interface"},
	Blocked:         {Fails, "carpctl doctor there"},
	HearsNoMaster:   {Fails, "compare the blocks of both carpd.conf; tcpdump -ni INTERFACE proto 112 there"},
	AdvertRefused:   {Odd, "carpctl doctor there says what differs; another router may use the same id"},
	MasterFenced:    {Fails, "systemctl restart carpd there; see what else touches routing rules: ip rule show pref 5"},
	Held:            {Costs, "carpctl doctor there says what it waits for"},
	VIPMissing:      {Fails, "carpctl doctor there; see what else changes addresses: systemd-networkd, NetworkManager"},
	VIPsDiffer:      {Fails, "write the same addresses into both carpd.conf; carpctl reload"},
	InstanceMissing: {Fails, "write the same instances into both carpd.conf; systemctl restart carpd there"},
	IDsDiffer:       {Fails, "write the same protocol and id into both carpd.conf; systemctl restart carpd there"},
	SamePriority:    {Odd, "give each gateway a priority (advskew) of its own; carpctl reload"},
	ForwardingOff:   {Fails, "sysctl net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 there, and in /etc/sysctl.d"},
	NotFollowing:    {Fails, "see `sasyncctl status` there: is its role BACKUP and its group name the same?"},
	Receiving:       {Fails, "wait for it"},
	Lags:            {Fails, "check the load of that gateway and the sync link"},
	NotInSync:       {Fails, "wait; if it lasts, see `sasyncctl status` there"},
	Refused:         {Fails, "see its log: usually a missing algorithm module"},
	RefusedHA:       {Fails, "see the logs of charon on both gateways"},
	Unlike:          {Fails, "run the same kernel release on all gateways, or do without what these items use"},
	Reduced: {Costs, "run the same kernel release on all gateways, with as many CPUs; or do without NAT keepalives of " +
		"the kernel and SAs of one CPU in the IKE daemon"},
	Uncovered: {Fails, "rekey them"},
	Offloaded: {Fails, "have the IKE daemon not offload them: hardware uses the bare sequence number as IV"},
	NoTunnel: {Odd,
		"if there should be one: let it end on the VIP (local_addrs in swanctl.conf); ip xfrm state"},
	Emptied: {Costs, "ip xfrm state; the log of the IKE daemon; journalctl -u sasyncd says when the tables " +
		"were flushed"},
	StaticKeys: {Fails, "see its log; sasyncd -n checks the file"},
	IKEError:   {Fails, "see the log of the IKE daemon there"},
	IKESetting: {Fails, ""}, // the finding brings its own
	IKEUnknown: {Unknown, "see its log; sasyncctl status there"},
	IKEAbsent:  {Costs, "start it there, and have it start at boot: systemctl enable --now"},
	Locked: {Fails, "an operator must change `mode` on both gateways; take it out of sasyncd.conf to have " +
		"carpd elect"},
	ElectionUnknown: {Unknown, "see there whether what elects runs and is ready (keepalived: restart it and it " +
		"tells); with carpd it is known"},
	NotReplicated: {Costs, "let tunnels that are to survive end on a VIP (local_addrs in swanctl.conf, left in " +
		"ipsec.conf); ip xfrm state there"},
	VIPClaimed: {Fails, "find the machine with this MAC address (the switch knows its port) and take the " +
		"address away from it"},
	VIPSilent: {Fails, "ip address, nft list ruleset, sysctl net.ipv4.conf.all.arp_ignore on the MASTER; " +
		"arping -I INTERFACE ADDRESS elsewhere"},
	VIPConfigured: {Fails, "remove it there from the network configuration (interfaces, netplan, networkd, " +
		"NetworkManager); ip address del"},
	SameMAC: {Fails, "ip link set dev INTERFACE address MAC on one of them: it is a clone"},
	SameAddress: {Costs, "give one of the machines another address; or find the loop in the network: tcpdump " +
		"-eni INTERFACE proto 112"},
	ForeignRouter: {Fails, "give one of the two another id (vrid, vhid): tcpdump -eni INTERFACE proto 112 shows " +
		"whose it is"},
	Demoted:       {Costs, "carpctl show there says what demotes it; carpctl undemote for what was demoted by hand"},
	MasterDemoted: {Costs, "carpctl show there says what demotes it; sasyncctl failover hands over"},
	Repaired: {Costs, "find the program that does: ip monitor rule route address, nft monitor; carpctl doctor " +
		"there names the usual ones"},
	RuleDenies:   {Fails, "ip rule, and ip -6 rule, there; see which program adds it"},
	NoRules:      {Fails, "ip rule add pref 32766 lookup main there, and the same of ip -6"},
	ARPHidden:    {Fails, "sysctl -w NAME=0 there, and in /etc/sysctl.d"},
	StrictFilter: {Odd, "sysctl -w NAME=2 there, and in /etc/sysctl.d"},
	HostSetting:  {Costs, "sysctl -w NAME there, and in /etc/sysctl.d"},
	LeakGuard:    {Costs, "sasyncctl guard there"},
	LeakStopped: {Costs, "sasyncctl guard there names the selectors without a policy: bring their tunnels up; of " +
		"tunnels that were removed, sasyncctl guard forget"},
	StateUnwritable: {Costs, "df -h, df -i and mount there: make room, or the file system writable"},
	ClockDiffers:    {Odd, "timedatectl, chronyc tracking on both gateways"},
	PeersDiffer:     {Costs, "write the same gateways as `peer` into every sasyncd.conf; sasyncctl reload"},
	PeersApart:      {Costs, "see cable, addresses and firewall between those two; sasyncctl peers on both"},
	MasterUnheard: {Fails, "tcpdump -ni INTERFACE proto 112 on both: its cable, its switch port, IGMP snooping (or " +
		"write unicast)"},
	CannotRepair: {Fails, "carpctl doctor there; journalctl -u carpd"},
}

func finding(c Code, member, group, cause string) Finding {
	k := kinds[c]
	return Finding{Code: c, Severity: k.severity, Member: member, Group: group, Cause: cause, Remedy: k.remedy}
}
