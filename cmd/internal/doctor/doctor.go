// Package doctor finds what keeps an election from working on this machine, from what
// carpd tells of itself and from settings of the kernel: `carpctl doctor`, which is the
// local part of `sasyncctl doctor`.
package doctor

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/judge"
	"sasyncd/cmd/internal/term"
)

// Finding is something that there is to say. What is no problem is for information
// and does not count for the exit code.
type Finding struct {
	// Code is that of package judge where check knows the same, else one of this one.
	Code    judge.Code `json:"code"`
	Problem bool       `json:"problem"`
	Where   string     `json:"where"`
	What    string     `json:"what"`
	Remedy  string     `json:"remedy"`
}

// Codes of what only the gateway itself can see, or what is no matter of a failover.
const (
	Unheard     judge.Code = "no-other-master" // a note: no other master is heard, as it should be
	Filtered    judge.Code = "raw-socket-deaf" // a packet filter drops protocol 112
	ClockJumped judge.Code = "clock-jumped"
	ARPAnswers  judge.Code = "arp-answers" // the parent of a virtual MAC answers for its address
)

// examination is what is looked at.
type examination struct {
	groups []api.GroupState
	clock  *api.Clock
	sysctl func(name string) string // "" where it cannot be read
	// raw tells, per interface, whether an ordinary raw socket heard anything
	// while carpd heard something; absent: not tried.
	raw map[string]bool
}

// recent is how old a refused advertisement may be to still count.
const recent = time.Minute

// Examine asks carpd, and listens where a master should be heard, for as long as ctx
// has left but at most a few seconds. It returns an error where carpd does not answer.
func Examine(ctx context.Context, c *api.Conn) ([]Finding, error) {
	before, err := c.Call(ctx, api.Request{Verb: api.VerbStatus})
	if err != nil {
		return nil, err
	}
	x := examination{sysctl: readSysctl, raw: listen(ctx, before.Groups)}
	after, err := c.Call(ctx, api.Request{Verb: api.VerbStatus})
	if err != nil {
		return nil, err
	}
	x.groups, x.clock = after.Groups, after.Clock
	for device, heard := range x.raw {
		if !heard && received(after.Groups, device) == received(before.Groups, device) {
			delete(x.raw, device) // nobody said anything
		}
	}
	return x.diagnose(), nil
}

// Problem begins a line about what is wrong.
const Problem = "PROBLEM: "

// NoProblem is said instead of findings.
const NoProblem = "no problem found"

// Text is a finding for people, in lines.
func Text(problem bool, where, what, remedy string, paint term.Paint) string {
	word, painted := "note: ", "note: "
	if problem {
		word, painted = Problem, paint.Bad(Problem)
	}
	first := strings.TrimPrefix(term.Wrap(word, "  ", where+what), word)
	return painted + first + term.Wrap("    ", "    ", remedy)
}

func readSysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// received counts the advertisements of IPv4 that carpd heard on an interface.
func received(groups []api.GroupState, device string) (n uint64) {
	for _, g := range groups {
		for _, in := range g.Instances {
			for _, r := range in.Routers {
				if in.Interface == device && r.Family == "ipv4" {
					n += r.Received
				}
			}
		}
	}
	return n
}

// adder notes a finding.
type adder func(code judge.Code, problem bool, where, what, remedy string)

// diagnose judges. It is pure.
func (x *examination) diagnose() []Finding {
	list := []Finding{}
	add := func(code judge.Code, problem bool, where, what, remedy string) {
		list = append(list, Finding{code, problem, where, what, remedy})
	}
	devices := map[string]bool{}
	for i := range x.groups {
		g := &x.groups[i]
		masters := 0
		for j := range g.Instances {
			in := &g.Instances[j]
			if in.State == api.StateInit {
				add(judge.NotBackup, true, in.Name, "interface "+in.Interface+
					" is down, missing, or has no address of its own", "ip addr show dev "+in.Interface)
			}
			for k := range in.Routers {
				masters += x.router(g, in, &in.Routers[k], add)
			}
			if in.Virtual && !devices[in.Interface] {
				x.virtual(in, add)
			}
			devices[in.Interface] = true
		}
		if g.State == api.StateMaster && masters == 0 {
			add(Unheard, false, "group "+g.Group, "this node is master and has heard no other master, which is normal",
				"run carpctl doctor on the backups to confirm that they hear this one")
		}
		if g.Blocked != "" && g.State != api.StateMaster {
			add(judge.Blocked, false, "group "+g.Group, "would not take over now: "+g.Blocked,
				"sasyncctl check tells more where sasyncd is the reason")
		}
		x.kernel(g, add)
		if g.Held != "" {
			add(judge.Held, false, "group "+g.Group, "nothing that comes in by "+strings.Join(interfaces(g), " or ")+
				" is forwarded: "+g.Held, held(g))
		}
	}
	if x.sysctl("all/forwarding") == "0" {
		add(judge.ForwardingOff, false, "net.ipv4.ip_forward",
			"this machine forwards nothing: right for a server, wrong for a gateway",
			"sysctl --system, where sysctl.d/60-sasyncd.conf is installed; or sysctl net.ipv4.ip_forward=1 "+
				"net.ipv6.conf.all.forwarding=1")
	}
	for device, heard := range x.raw {
		if !heard {
			add(Filtered, false, device, "carpd hears advertisements that an ordinary raw socket does not: a packet "+
				"filter or rp_filter drops IP protocol 112",
				"carpd is not affected; other daemons (keepalived, FRR, ucarp) on this machine would be: let "+
					"protocol 112 to 224.0.0.18 and ff02::12 pass")
		}
	}
	if c := x.clock; c != nil && c.Jumps > 0 {
		add(ClockJumped, true, "clock", fmt.Sprintf("the time of day has jumped %d times since carpd started, last "+
			"by %v, %v ago", c.Jumps, time.Duration(c.LastMS)*time.Millisecond, term.Age(c.AgeMS)),
			"carpd does not depend on it, IKE and certificates do: let chrony or systemd-timesyncd slew the clock, "+
				"and look at the hypervisor's")
	}
	return list
}

// interfaces lists those of a group.
func interfaces(g *api.GroupState) (names []string) {
	for _, in := range g.Instances {
		if !slices.Contains(names, in.Interface) {
			names = append(names, in.Interface)
		}
	}
	return names
}

// kernel reports what other programs changed of carpd's state in the kernel. A change
// within the last minute is a problem, an older one a note.
func (x *examination) kernel(g *api.GroupState, add adder) {
	where := "group " + g.Group
	for _, c := range g.Configured {
		add(judge.VIPConfigured, true, where, fmt.Sprintf("the virtual address %v is also configured by the system "+
			"on %s: two nodes answer for it while another one is MASTER",
			c.Address, c.Interface),
			fmt.Sprintf("remove it from the network configuration (interfaces, netplan, networkd, NetworkManager, "+
				"cloud-init); ip addr del %v dev %s",
				c.Address, c.Interface))
	}
	for _, r := range g.Repairs {
		what, remedy := repaired(g, r.Kind)
		if r.Error != "" {
			add(judge.CannotRepair, true, where, "cannot repair: "+what+": "+r.Error, remedy)
		}
		if r.Count > 0 {
			ago := time.Duration(r.AgeMS) * time.Millisecond
			add(judge.Repaired, ago <= recent, where, fmt.Sprintf("%s; repaired %d times, last %v ago", what, r.Count,
				term.Age(r.AgeMS)), remedy)
		}
	}
}

// repaired describes a kind of repair and the remedy.
func repaired(g *api.GroupState, kind string) (what, remedy string) {
	rules := "find the program that changes routing rules (ip monitor rule); systemd-networkd needs " +
		"ManageForeignRoutingPolicyRules=no"
	switch kind {
	case api.RepairedFence:
		return "the fence was removed from a BACKUP or set on a MASTER", rules
	case api.RepairedGate:
		return "the IPv6 gate was removed, which silences the addresses if carpd dies", rules
	case api.RepairedHold:
		return "the rules that hold forwarding were changed", rules
	case api.RepairedAddress:
		return "virtual addresses were removed", "find the network manager of " + strings.Join(interfaces(g), " or ") +
			"; systemd-networkd needs KeepConfiguration="
	case api.RepairedRoute:
		return "local routes of virtual addresses were removed",
			"only the kernel may change the routing table local: find the program that does (ip monitor route)"
	case api.RepairedFilter:
		return "the nftables tables of carpd were changed (accept no, lease nftables)",
			"a ruleset must not begin with `flush ruleset`: have it replace its own tables only, see docs/firewall.md"
	}
	return "kernel state of carpd was changed", "find the program that does (ip monitor)"
}

// held says what to do where forwarding is held.
func held(g *api.GroupState) string {
	if g.State == api.StateMaster {
		return "it ends by itself; sasyncctl check says what is negotiated"
	}
	return "right for a node that has just booted, since it would send in plaintext; sasyncctl check says what it " +
		"waits for. " +
		"A backup whose master has no tunnels either stays so until it is master. To forward all the same: take " +
		"`require sasyncd` " +
		"out of group " + g.Group + " in carpd.conf, carpctl reload, and put it back for the next start"
}

// router returns 1 if another master was ever heard.
func (x *examination) router(g *api.GroupState, in *api.InstanceState, r *api.RouterState, add adder) int {
	where := in.Name + " " + r.Family
	if r.Expired && g.State != api.StateMaster {
		remedy := "look whether the master's advertisements arrive: tcpdump -ni " + in.Interface +
			" proto 112; a switch with IGMP snooping and no querier drops them: write unicast"
		if hearsMaster(g) {
			remedy += "; others of the group hear it, so the link may fail in one direction; track ping makes the " +
				"master hand over"
		}
		add(judge.HearsNoMaster, true, where, "hears no master, and the group does not take over", remedy)
	}
	if g.State == api.StateMaster && r.Peer.IsValid() && r.HeardMS < r.DownMS && g.AgeMS > r.DownMS {
		add(judge.TwoMasters, true, where, fmt.Sprintf("%v is master too", r.Peer),
			"the nodes hear each other in one direction only, or the other one refuses our advertisements: run "+
				"carpctl doctor there")
	}
	for _, f := range r.Refusals {
		if time.Duration(f.AgeMS)*time.Millisecond > recent {
			continue
		}
		what := fmt.Sprintf("advertisements are refused, %d so far, the last from %v: %s", f.Count, f.Peer, f.Text)
		if f.Kind == api.RefusedAddresses || f.Kind == api.RefusedMAC {
			what = fmt.Sprintf("advertisements are doubtful, %d so far, the last from %v: %s", f.Count, f.Peer, f.Text)
		}
		add(codeOf(f.Kind), true, where, what, remedyOf(f.Kind))
	}
	if r.Peer.IsValid() {
		return 1
	}
	return 0
}

// hearsMaster reports whether any router of a backup hears a master.
func hearsMaster(g *api.GroupState) bool {
	for i := range g.Instances {
		for j := range g.Instances[i].Routers {
			if r := &g.Instances[i].Routers[j]; r.Peer.IsValid() && !r.Expired {
				return true
			}
		}
	}
	return false
}

// codeOf is the code for refused advertisements.
func codeOf(kind string) judge.Code {
	switch kind {
	case api.RefusedMAC:
		return judge.SameMAC
	case api.RefusedOwn:
		return judge.SameAddress
	}
	return judge.AdvertRefused
}

// remedyOf says what to do about refused advertisements.
func remedyOf(kind string) string {
	switch kind {
	case api.RefusedProtocol:
		return "CARP and VRRP share their virtual MAC addresses: give one of them another number (vhid, vrid)"
	case api.RefusedVersion:
		return "write the same version on all members"
	case api.RefusedInterval:
		return "VRRPv2 needs the same interval on all members"
	case api.RefusedAddresses:
		return "either the addresses differ between members: make them equal; or another group of routers uses the " +
			"same number: change it"
	case api.RefusedAuth:
		return "write the same pass, or keys, on all members"
	case api.RefusedTTL:
		return "somebody forges advertisements, or a router is between the members: write hops where unicast is " +
			"meant to pass it"
	case api.RefusedOwn:
		return "give one of the machines another address, and a clone another MAC address; or find the loop in the " +
			"network"
	case api.RefusedCast:
		return "write unicast (carppeer) on all members or on none; if it is another group of routers, give one of " +
			"them another number"
	case api.RefusedPeer:
		return "name that address in unicast (carppeer) if it is a member's; carpctl doctor there shows whether it " +
			"speaks from another one than it should"
	case api.RefusedMAC:
		return "give one of the machines another MAC address: they are clones, and the network cannot deliver to both"
	}
	return "look at it: tcpdump -nvX proto 112"
}

// virtual looks for settings that defeat a virtual MAC.
func (x *examination) virtual(in *api.InstanceState, add adder) {
	where := in.Name + " mac virtual"
	if v := x.sysctl("all/arp_ignore"); v != "" && v > "1" {
		add(judge.ARPHidden, true, where, "net.ipv4.conf.all.arp_ignore is "+v+
			", so that ARP for the virtual address may stay unanswered",
			"sysctl net.ipv4.conf.all.arp_ignore=0; carpd sets what it needs per interface")
	}
	if v := x.sysctl("all/rp_filter"); v == "1" {
		add(judge.StrictFilter, false, where, "net.ipv4.conf.all.rp_filter is 1, carpd loosens it on the virtual "+
			"interface only", "nothing, unless something sets it back: sysctl net.ipv4.conf.all.rp_filter=0")
	}
	dev := in.Interface
	if v := x.sysctl(dev + "/arp_ignore"); v == "0" && x.sysctl("all/arp_ignore") == "0" &&
		in.State == api.StateMaster {
		add(ARPAnswers, true, where, "net.ipv4.conf."+dev+".arp_ignore is 0: "+dev+
			" answers for the virtual address with its own MAC", "something has set it back: sysctl net.ipv4.conf."+dev+
			".arp_ignore=1")
	}
}
