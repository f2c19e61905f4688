package judge

import (
	"cmp"
	"fmt"
	"strings"
)

// clockLimit is how far the clocks of two gateways may differ, in seconds. What a
// report tells is up to 5 s old, and the way here takes time.
const clockLimit = 30

// Setting is a setting of the kernel that may harm an interface.
type Setting struct {
	Name  string `json:"name"` // below /proc/sys: net/ipv4/conf/eth0/rp_filter
	Value string `json:"value"`
	// Interface is the one that it may harm.
	Interface string `json:"interface"`
}

// Device is an interface of an instance.
type Device struct {
	Name     string
	IP4, IP6 bool // it has VIPs of the family
	Virtual  bool // they are on a virtual MAC
}

// Harmful returns the settings of an interface that may harm its VIPs. read returns the
// content of a file below /proc/sys, "" where it cannot be read.
func Harmful(d Device, read func(name string) string) (out []Setting) {
	all := func(name string) string { return "net/ipv4/conf/all/" + name }
	here := func(name string) string { return "net/ipv4/conf/" + d.Name + "/" + name }
	add := func(name string) { out = append(out, Setting{name, read(name), d.Name}) }
	if d.IP4 {
		if read(here("forwarding")) == "0" {
			add(here("forwarding"))
		}
		// The larger of the two counts (IN_DEV_MAXCONF of linux/inetdevice.h).
		for _, name := range []string{"arp_ignore", "rp_filter"} {
			of := all(name)
			if number(read(here(name))) > number(read(of)) {
				of = here(name)
			}
			switch v := number(read(of)); {
			case name == "arp_ignore" && (v == arpSameNet || v == arpNever), name == "rp_filter" && v == rpStrict &&
				!d.Virtual:
				add(of)
			}
		}
		// One of the two is enough (IN_DEV_ORCONF). The interface of a virtual MAC has no
		// route of its own, so with this it answers nobody. carpd sets its parent's.
		if d.Virtual && read(all("arp_filter")) == "1" {
			add(all("arp_filter"))
		}
	}
	if d.IP6 {
		six := func(name string) string { return "net/ipv6/conf/" + d.Name + "/" + name }
		off := read(six("forwarding")) == "0"
		if off {
			add(six("forwarding"))
		}
		if v := read(six("accept_ra")); v == "2" || v == "1" && off {
			add(six("accept_ra"))
		}
	}
	return out
}

// Values of settings (Documentation/networking/ip-sysctl.rst of the kernel).
const (
	rpStrict   = 1 // rp_filter
	arpSameNet = 2 // arp_ignore: only to senders in the network of the address, and a VIP's has no other
	arpNever   = 8 // arp_ignore
)

// number is a setting's value, 0 where it is none.
func number(s string) (n int) {
	_, _ = fmt.Sscanf(s, "%d", &n) // stays 0
	return n
}

// settings finds settings of a member that harm the group's interfaces.
func (m *member) settings(group string) (list []Finding) {
	if m.group.Carp == nil {
		return nil
	}
	ours := make(map[string]bool)
	for _, in := range m.group.Carp.Instances {
		ours[in.Interface] = true
	}
	for _, s := range m.facts.Settings {
		if !ours[s.Interface] {
			continue
		}
		what := fmt.Sprintf("%s is %s", s.Name, s.Value)
		c, want, why := HostSetting, "", ""
		switch six := strings.Contains(s.Name, "/ipv6/"); s.Name[strings.LastIndexByte(s.Name, '/')+1:] {
		case "forwarding":
			if !six {
				c = ForwardingOff
			}
			want, why = "1", "what comes in by "+s.Interface+" is not forwarded"
			if six {
				why = "hosts do not take " + s.Interface + " for a router, and routers change its routes"
			}
		case "arp_ignore":
			c, want, why = ARPHidden, "0", "nobody is told where the VIPs on "+s.Interface+" are"
		case "arp_filter":
			c, want, why = ARPHidden, "0", "the virtual MAC of "+s.Interface+" does not answer for its VIPs"
		case "rp_filter":
			c, want, why = StrictFilter, "2", "packets on "+s.Interface+
				" whose way back is another interface are dropped"
		case "accept_ra":
			want, why = "0", "any router on "+s.Interface+" can change this gateway's routes"
		default:
			continue // of a later version
		}
		f := finding(c, m.name, group, what+": "+why)
		f.Remedy = fmt.Sprintf("sysctl -w %s=%s there, and in /etc/sysctl.d", s.Name, want)
		list = append(list, f)
	}
	return list
}

// hosts finds what is wrong with the machines, whatever the group.
func hosts(own *Facts, peers []Peer) (list []Finding) {
	unwritable := func(name string, f *Facts) {
		if f.StateError != "" {
			list = append(list, finding(StateUnwritable, name, "",
				"sasyncd cannot write its state directory, and forgets terms and the numbers of static keys at its "+
					"next start: "+f.StateError))
		}
		if f.GuardError != "" {
			list = append(list, finding(LeakGuard, name, "",
				"the leak guard is not whole, and packets may leave in plaintext while policies are gone: "+
					f.GuardError))
		}
		if n := f.GuardDropped; n > 0 {
			list = append(list, finding(LeakStopped, name, "", fmt.Sprintf(
				"packets that would have left in plaintext were dropped, %d in the last 5 minutes: a policy requires "+
					"IPsec for them and is gone, or has no SA", n)))
		}
	}
	unwritable(ThisGateway, own)
	for i := range peers {
		p := &peers[i]
		if !p.fresh() {
			continue
		}
		unwritable(p.Name, p.Facts)
		if own.Clock == 0 || p.Facts.Clock == 0 {
			continue
		}
		ahead := float64(p.Facts.Clock) + p.Age - float64(own.Clock)
		if ahead < clockLimit && ahead > -clockLimit {
			continue
		}
		words := "ahead of"
		if ahead < 0 {
			words = "behind"
		}
		list = append(list, finding(ClockDiffers, p.Name, "", fmt.Sprintf(
			"its clock is %.0f s %s this gateway's: certificates may be refused, and logs do not fit together",
			max(ahead, -ahead), words)))
	}
	return list
}

// fresh reports whether the peer has told lately what it knows.
func (p *Peer) fresh() bool { return p.Connected && p.Facts != nil && p.Age <= reportLimit }

// follows names the groups that the peer follows, "" if it has not said.
func (p *Peer) follows() string {
	var names []string
	if p.fresh() {
		for _, g := range p.Facts.Groups {
			names = append(names, cmp.Or(g.Name, "all"))
		}
	}
	return strings.Join(names, ", ")
}
