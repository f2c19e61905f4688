package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/term"
)

// finding is something that doctor has to say. What is no problem is for
// information and does not count for the exit code.
type finding struct {
	Problem bool   `json:"problem"`
	Where   string `json:"where"`
	What    string `json:"what"`
	Remedy  string `json:"remedy"`
}

// examination is what doctor looks at.
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

// errSick is that doctor found a problem.
var errSick = errors.New("problems found")

// doctor examines the node and prints what it found.
func doctor(ctx context.Context, c *api.Conn, asJSON bool, out io.Writer) error {
	before, err := c.Call(ctx, api.Request{Verb: api.VerbStatus})
	if err != nil {
		return err
	}
	x := examination{sysctl: readSysctl, raw: listen(ctx, before.Groups)}
	after, err := c.Call(ctx, api.Request{Verb: api.VerbStatus})
	if err != nil {
		return err
	}
	x.groups, x.clock = after.Groups, after.Clock
	for device, heard := range x.raw {
		if !heard && received(after.Groups, device) == received(before.Groups, device) {
			delete(x.raw, device) // nobody said anything
		}
	}
	return tell(out, x.diagnose(), asJSON)
}

// diagnosis is what doctor prints with -j.
type diagnosis struct {
	Findings []finding `json:"findings"`
}

// tell prints what was found. The error says whether a problem is among it.
func tell(out io.Writer, list []finding, asJSON bool) error {
	sick := false
	var b strings.Builder
	for _, f := range list {
		sick = sick || f.Problem
		word := "note: "
		if f.Problem {
			word = "PROBLEM: "
		}
		b.WriteString(term.Wrap(word, "  ", f.Where+": "+f.What))
		b.WriteString(term.Wrap("    ", "    ", f.Remedy))
	}
	if !sick {
		b.WriteString("no problem found\n")
	}
	var err error
	if asJSON {
		err = printJSON(out, diagnosis{list})
	} else {
		_, err = io.WriteString(out, b.String())
	}
	if err == nil && sick {
		err = errSick
	}
	return err
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

// diagnose judges. It is pure.
func (x *examination) diagnose() []finding {
	list := []finding{}
	add := func(problem bool, where, what, remedy string) {
		list = append(list, finding{problem, where, what, remedy})
	}
	devices := map[string]bool{}
	for i := range x.groups {
		g := &x.groups[i]
		masters := 0
		for j := range g.Instances {
			in := &g.Instances[j]
			if in.State == api.StateInit {
				add(true, in.Name, "interface "+in.Interface+" is down, missing, or has no address of its own", "ip addr show dev "+in.Interface)
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
			add(false, "group "+g.Group, "this node is master and has heard no other one, which is how it should be; whether the backups hear it, only they can tell", "run carpctl doctor there")
		}
		if g.Blocked != "" && g.State != api.StateMaster {
			add(false, "group "+g.Group, "would not take over now: "+g.Blocked, "sasyncctl check tells more where sasyncd is the reason")
		}
		if g.Held != "" {
			add(false, "group "+g.Group, "nothing that comes in by "+strings.Join(interfaces(g), " or ")+" is forwarded: "+g.Held, held(g))
		}
	}
	if x.sysctl("all/forwarding") == "0" {
		add(false, "net.ipv4.ip_forward", "this machine forwards nothing: right for a server, wrong for a gateway", "sysctl --system, where sysctl.d/60-sasyncd.conf is installed; or sysctl net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	}
	for device, heard := range x.raw {
		if !heard {
			add(false, device, "carpd hears advertisements that an ordinary raw socket does not: a packet filter or rp_filter drops IP protocol 112", "carpd is not affected; other daemons (keepalived, FRR, ucarp) on this machine would be: let protocol 112 to 224.0.0.18 and ff02::12 pass")
		}
	}
	if c := x.clock; c != nil && c.Jumps > 0 {
		add(true, "clock", fmt.Sprintf("the time of day has jumped %d times since carpd started, last by %v, %v ago", c.Jumps, time.Duration(c.LastMS)*time.Millisecond, age(c.AgeMS)),
			"carpd does not depend on it, IKE and certificates do: let chrony or systemd-timesyncd slew the clock, and look at the hypervisor's")
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

// held says what to do where forwarding is held.
func held(g *api.GroupState) string {
	if g.State == api.StateMaster {
		return "it ends by itself; sasyncctl check says what is negotiated"
	}
	var by []string
	for _, name := range interfaces(g) {
		by = append(by, "ip rule del pref 3 iif "+name+"; ip -6 rule del pref 3 iif "+name)
	}
	return "right for a node that has just booted, since it would send in plaintext; sasyncctl check says what it waits for. " +
		"A backup whose master has no tunnels either stays so until it is master. To forward all the same: " + strings.Join(by, "; ")
}

// router returns 1 if another master was ever heard.
func (x *examination) router(g *api.GroupState, in *api.InstanceState, r *api.RouterState, add func(bool, string, string, string)) int {
	where := in.Name + " " + r.Family
	if r.Expired && g.State != api.StateMaster {
		remedy := "look whether the master's advertisements arrive: tcpdump -ni " + in.Interface + " proto 112; a switch with IGMP snooping and no querier drops them: write unicast"
		if hearsMaster(g) {
			remedy += "; others of the group hear it, so it may be that its cable sends nothing here: track ping has it give way"
		}
		add(true, where, "hears no master, and the group does not take over", remedy)
	}
	if g.State == api.StateMaster && r.Peer.IsValid() && r.HeardMS < r.DownMS && g.AgeMS > r.DownMS {
		add(true, where, fmt.Sprintf("%v is master too", r.Peer), "the nodes hear each other in one direction only, or the other one refuses our advertisements: run carpctl doctor there")
	}
	if r.Repaired > 0 {
		add(false, where, fmt.Sprintf("somebody deleted virtual addresses %d times, they were put back", r.Repaired), "look for a network manager that owns "+in.Interface)
	}
	for _, f := range r.Refusals {
		if time.Duration(f.AgeMS)*time.Millisecond > recent {
			continue
		}
		what := fmt.Sprintf("advertisements are refused, %d so far, the last from %v: %s", f.Count, f.Peer, f.Text)
		if f.Kind == api.RefusedAddresses || f.Kind == api.RefusedMAC {
			what = fmt.Sprintf("advertisements are doubtful, %d so far, the last from %v: %s", f.Count, f.Peer, f.Text)
		}
		add(true, where, what, remedyOf(f.Kind))
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
		return "either the addresses differ between members: make them equal; or another group of routers uses the same number: change it"
	case api.RefusedAuth:
		return "write the same pass, or keys, on all members"
	case api.RefusedTTL:
		return "somebody forges advertisements, or a router is between the members: write hops where unicast is meant to pass it"
	case api.RefusedOwn:
		return "give one of the machines another address, and a clone another MAC address; or find the loop in the network"
	case api.RefusedCast:
		return "write unicast (carppeer) on all members or on none; if it is another group of routers, give one of them another number"
	case api.RefusedPeer:
		return "name that address in unicast (carppeer) if it is a member's; carpctl doctor there shows whether it speaks from another one than it should"
	case api.RefusedMAC:
		return "give one of the machines another MAC address: they are clones, and the network cannot deliver to both"
	}
	return "look at it: tcpdump -nvX proto 112"
}

// virtual looks for settings that defeat a virtual MAC.
func (x *examination) virtual(in *api.InstanceState, add func(bool, string, string, string)) {
	where := in.Name + " mac virtual"
	if v := x.sysctl("all/arp_ignore"); v != "" && v > "1" {
		add(true, where, "net.ipv4.conf.all.arp_ignore is "+v+", so that ARP for the virtual address may stay unanswered", "sysctl net.ipv4.conf.all.arp_ignore=0; carpd sets what it needs per interface")
	}
	if v := x.sysctl("all/rp_filter"); v == "1" {
		add(false, where, "net.ipv4.conf.all.rp_filter is 1, carpd loosens it on the virtual interface only", "nothing, unless something sets it back: sysctl net.ipv4.conf.all.rp_filter=0")
	}
	dev := in.Interface
	if v := x.sysctl(dev + "/arp_ignore"); v == "0" && x.sysctl("all/arp_ignore") == "0" && in.State == api.StateMaster {
		add(true, where, "net.ipv4.conf."+dev+".arp_ignore is 0: "+dev+" answers for the virtual address with its own MAC", "something has set it back: sysctl net.ipv4.conf."+dev+".arp_ignore=1")
	}
}
