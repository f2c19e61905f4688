package gate

import "time"

// List is all gates, in the order in which they run.
var List = append(here, onGrounds()...)

// here are the gates on this system.
var here = []Gate{
	{
		Name:   "demo",
		Shows:  "the failover of the README: power cuts, returns and hand-overs of a pair under traffic",
		Takes:  2 * time.Minute,
		Before: "96bbf9c, within `make fresh`: ok",
	},
	{
		Name: "test",
		Shows: "unit tests with the race detector; conformance, failover, election, interoperation and replication " +
			"drills, and cut links between three gateways",
		Takes: 27 * time.Minute,
		Before: "22f8739, in continuous integration: ok, 1,629 s. 96bbf9c, in a minimal root, as one command: ok, " +
			"all 66 packages",
	},
	{
		Name:   "drill",
		Shows:  "the part of `make test` that runs real daemons, packets and kernels",
		Takes:  20 * time.Minute,
		InTest: true,
	},
	{
		Name: "fresh",
		Shows: "`make demo` and `make test` on a new machine: a clone in a minimal root directory of Debian 12, in " +
			"which they install what they need",
		Takes:  32 * time.Minute,
		Needs:  "root, mmdebstrap, a mirror of Debian",
		Before: "96bbf9c, as one command: ok, 38 min, with a compiler at work beside it now and then",
	},
	{
		Name: "drill-ike",
		Shows: "strongSwan (plain, ha, IKEv1, certificates, NAT, 30 tunnels and 30 remotes), libreswan 4.10 (IKEv2, " +
			"IKEv1) and 5.2, OpenIKED, systemd as init",
		Takes: 22 * time.Minute,
		Needs: "strongSwan, OpenIKED, libreswan of Debian 12 and 13",
		Gap: "at 1e9f8b1 `TestStrongSwanCertificates` once counted 12 SAs after a takeover where 8 are wanted. Why " +
			"is not known. The run of all 15 at 2bf7c41 was ok.",
		Before: "2bf7c41, as one command, alone: ok, all 15, 1,029 s",
	},
	{
		Name: "drill-package",
		Shows: "the package on two machines with systemd in one guest: failover, and the upgrade of a live pair from " +
			"a really older commit, packets counted",
		Takes: 2 * time.Minute,
		Gap:   "a clone that lacks the older commit has the older package made of the same sources. The drill says so.",
		Before: "d21d82c, beside two other runs: `TestPackage` ok (619 s, hand-over 224 ms), `TestUpgrade` ended by " +
			"its limit while dpkg ran. cd38ef6: the upgrade of the standby lost 0 packets of 6,996, of the " +
			"MASTER 16 of 6,968",
	},
	{
		Name: "check-packages",
		Shows: "deb, rpm, apk and Arch Linux packages: twice the same bits, and what the tools of their distributions " +
			"say; services under OpenRC",
		Takes: 6 * time.Minute,
		Needs: "nfpm (from the Go module proxy), lintian, rpm, rpmlint, pacman, OpenRC, podman of Debian 13",
	},
	{
		Name: "drill-managers",
		Shows: "systemd-networkd, NetworkManager, netplan, ifupdown, firewalld and nftables.service of Debian 13 against " +
			"a live MASTER",
		Takes: 11 * time.Minute,
		Needs: "root, mmdebstrap, a mirror of Debian",
	},
	{
		Name:   "drill-prometheus",
		Shows:  "every alert, caused with real daemons and fired by a real Prometheus",
		Takes:  7 * time.Minute,
		Needs:  "strongSwan",
		Before: "46306bb: ok, 432 s",
	},
	{
		Name:   "drill-nodes",
		Shows:  "each gateway a kernel of its own: power cut, freeze, one-way cuts, cold start, bad network",
		Takes:  17 * time.Minute,
		Alone:  true,
		Before: "46306bb, as one command, alone: ok, 338 s",
	},
	{
		Name:   "drill-static",
		Shows:  "`control static`: load, reload by difference, power cut, cold start",
		Takes:  time.Minute,
		Before: "644b75d, beside an emulated guest: ok",
	},
	{
		Name: "drill-examples",
		Shows: "the examples `carp` with `openbsd`, `keepalived`, `fencing` and `tracking` (`pair` is in `make " +
			"test`)",
		Takes:  2 * time.Minute,
		Before: "2af28cb, as one command on a fresh clone: ok",
	},
	{
		Name:   "drill-shapes",
		Shows:  "transport mode, GRE, BGP above it, WireGuard",
		Takes:  5 * time.Minute,
		Needs:  "wireguard-go, wireguard-tools",
		Before: "644b75d, beside an emulated guest: ok",
	},
	{
		Name: "drill-qemu",
		Shows: "route-based tunnels, firewall, connections over two failovers with conntrackd, on Debian's cloud " +
			"kernel under qemu",
		Takes:  7 * time.Minute,
		Needs:  "qemu; the time is with an emulated processor",
		Before: "8f3d23f, as one command, beside other load: ok",
	},
	{
		Name: "drill-race",
		Shows: "the drills with the race detector in daemons and tests, on Debian's cloud kernel under qemu; the " +
			"election, which needs no ESP, natively",
		Takes: 95 * time.Minute,
		Needs: "qemu, root; the time is with an emulated processor",
		Alone: true,
		Gap: "of the drills, only those of `tests/conformance`, `tests/replication`, `tests/drills` and " +
			"`tests/election` run with the race detector.",
		Before: "00559d7, as one command, alone: no race; 24 of 25 of `tests/drills`, as the program of " +
			"`TestExampleTracking` needed more than its second to start. With an emulated guest's time it is ok " +
			"alone at 3ed99c3, and so is the election",
	},
	{
		Name:   "drill-hostile",
		Shows:  "floods, slow senders, forgeries, nonsense from who holds the key",
		Takes:  3 * time.Minute,
		Before: "b69a325: ok, all 13 attacks in one run",
	},
	{
		Name:  "drill-matrix",
		Shows: "35 faults at 6 moments",
		Takes: 60 * time.Minute,
		Alone: true,
		Gap: "while both sasyncd are away nobody can be MASTER. So a hand-over that restarts both has no bound of " +
			"its own: the drill counts from the return of the first. At 8c53b0e the whole gap was 4,960 ms.",
		Before: "2bf7c41, as one command, alone, 51 min: 202 of 208 cells ok, 2 make no sense. Five of the other six " +
			"are \"sasyncd restarted on both nodes\", one is \"disk full\" in a snapshot, 6,087 ms of 3,200. At " +
			"8c53b0e, where the MASTER waits as long as by default, these rows alone: ok but for " +
			"\"take-over\" of the former. At 46306bb, counted from the return of the first, all of them ok",
	},
	{
		Name: "drill-check",
		Shows: "what `sasyncctl check` says in some hundred situations, faults and misconfigurations of two and " +
			"three gateways, against real failovers, planned and by power cut; natively without ESP, several side by " +
			"side, and in a guest with it",
		Takes: 45 * time.Minute,
		Gap: "`check` says no in five situations in which a failover works. " +
			"[reliability.md](reliability.md) explains each. The drill allows 5 % of the situations.",
		Before: "46306bb, as one command, alone, 31 min: one wrong yes (the hand-over went to the lesser of two " +
			"standbys, which does not forward) and one wrong no without a reason, of 110 situations. Both are mended " +
			"since, and not run again",
	},
	{
		Name:   "drill-thousand",
		Shows:  "1,000 failovers in a row",
		Takes:  23 * time.Minute,
		Before: "0db1ac4, seed 20261130, beside another guest: ok; nothing twice, refused, in plaintext or leaked",
	},
	{
		Name: "drill-leaks",
		Shows: "the leak guard with real ESP, by routes, by the table of nf_tables and by both: flushes, expiry and " +
			"replacement of policies, a boot, NAT, a flowtable, `nft flush ruleset`, fragments, ports, GRE, hand-overs " +
			"and power cuts; and that without it the same sends in plaintext",
		Takes: 12 * time.Minute,
		Needs: "qemu",
		Gap:   "the start of IKE daemons beside the guard, and other kernels than 6.1, were not run",
	},
	{
		Name:   "mutants",
		Shows:  "defects that are planted, one or more for each invariant; a named test must fail, and pass without",
		Takes:  3 * time.Minute,
		Before: "46306bb: all caught, 96 s",
	},
	{
		Name: "drill-long",
		Shows: "50 ms advertisements while six processes take two processors; a hand-over within 0.3 s by BFD at 50 ms " +
			"with FRR",
		Takes:  time.Minute,
		Alone:  true,
		Before: "783d854, alone: ok",
	},
	{
		Name:   "drill-page",
		Shows:  "the status page in a real browser",
		Takes:  time.Minute,
		Needs:  "chromium",
		Before: "783d854: ok",
	},
	{
		Name:   "fuzz",
		Shows:  "every decoder, a minute each, as many at once as there are processors",
		Takes:  25 * time.Minute,
		Writes: []string{"testdata/fuzz/"},
		Before: "3ed99c3: all 44 without a finding, 24.5 min; eight whose counts were low again at " +
			"fb606f2: none either",
	},
	{
		Name:   "bench",
		Shows:  "the promised figures, beside peers ([performance.md](performance.md)); a missed target is no failure",
		Takes:  16 * time.Minute,
		Needs:  "strongSwan",
		Alone:  true,
		Writes: []string{"docs/performance.md"},
		Before: "00559d7, as one command, alone: ok",
	},
	{
		Name:   "scale",
		Shows:  "100,000 SAs, 8 standbys ([scale.md](scale.md))",
		Takes:  5 * time.Minute,
		Alone:  true,
		Writes: []string{"docs/scale.md"},
		Before: "3ed99c3, alone: ok",
	},
	{
		Name:   "soak",
		Shows:  "an hour of rekeys and faults ([soak.md](soak.md))",
		Takes:  time.Hour,
		Writes: []string{"docs/soak.md", "docs/soak.svg"},
		Before: "9d1ab53, seed 20261201, beside an emulated guest: passed; 60,056 rekeys, 176 faults, 0 twice, 0 " +
			"refused, 0 in plaintext",
	},
}
