package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sasyncd/cmd/internal/spell"
)

// finish fills in the defaults of an instance that depend on each other and
// checks it by itself. given is where its keywords stand; complete is false
// when one of its statements was refused, which explains what is missing.
func (c *carpdParser) finish(in *Instance, given map[string]Pos, complete bool) {
	at := func(keyword string) Pos {
		if p := given[keyword]; !p.IsZero() {
			return p
		}
		return in.Pos
	}
	number := map[bool]string{true: "vhid", false: "vrid"}[in.CARP != nil]
	for _, need := range []string{"carpdev", number, "address"} {
		if given[need].IsZero() {
			c.errorf(in.Pos, "write it inside the braces", "instance %s has no %s", in.Name, need)
		}
	}
	if len(in.Addresses) > maxAddresses {
		c.errorf(in.Pos, "split it into several instances", "instance %s has more than %d addresses", in.Name,
			maxAddresses)
	}
	c.finishAuth(in, at)
	if !complete {
		return
	}
	if in.CARP != nil {
		c.finishCARP(in, at)
	} else {
		c.finishVRRP(in, at)
	}
}

func (c *carpdParser) finishAuth(in *Instance, at func(string) Pos) {
	switch {
	case len(in.Keys) > 0 && in.Auth == AuthNone:
		in.Auth = AuthEnforce
	case len(in.Keys) == 0 && in.Auth != AuthNone && at("key") == in.Pos:
		c.errorf(at("auth"), `write key 1 file "/etc/carpd.key"`, "auth %s needs a key", in.Auth)
	}
	if in.VRRP != nil && in.VRRP.Version == 2 && len(in.Keys) > 0 {
		c.errorf(in.Keys[0].Pos, "write version 3, or pass", "version 2 has no keys")
	}
}

func (c *carpdParser) finishCARP(in *Instance, at func(string) Pos) {
	cp := in.CARP
	limit := maxPassCARP
	if cp.Dialect == DialectFreeBSD {
		limit = maxPassCARPBSD
		if cp.AdvBase == 0 {
			c.errorf(at("advbase"), "write advbase 1 or more, or carp-dialect openbsd",
				"advbase 0 is unknown to carp-dialect freebsd")
		}
	}
	switch n := cp.Pass.Len(); {
	case n == 0 && at("pass") == in.Pos:
		c.errorf(in.Pos, "write pass and the password that all members share", "instance %s has no pass", in.Name)
	case n > limit:
		c.errorf(at("pass"), fmt.Sprintf("write at most %d", limit), "a pass of %d bytes is too long", n)
	}
	c.checkPeersOf(in, "carppeer", cp.Peers, at)
}

func (c *carpdParser) finishVRRP(in *Instance, at func(string) Pos) {
	v := in.VRRP
	if v.Interval == 0 {
		v.Interval = DefaultVRRP3Interval
		if v.Version == 2 {
			v.Interval = DefaultVRRP2Interval
		}
	}
	if v.Version == 3 {
		if v.Interval > 40950*time.Millisecond {
			c.errorf(at("interval"), "write a time from 10ms to 40.95s", "interval %s is out of range for version 3",
				durationText(v.Interval))
		}
		if v.Pass.Len() > 0 {
			c.errorf(at("pass"), `write key 1 file "/etc/carpd.key"`, "version 3 has no pass")
		}
	} else {
		if v.Interval%time.Second != 0 {
			c.errorf(at("interval"), "write whole seconds, 1s to 255s", "interval %s is too fine for version 2",
				durationText(v.Interval))
		}
		if v.Pass.Len() > 8 {
			c.errorf(at("pass"), "write at most 8", "a pass of %d bytes is too long for version 2", v.Pass.Len())
		}
		if v.Checksum != ChecksumAuto {
			c.errorf(at("checksum"), "remove it", "checksum has no meaning for version 2")
		}
		for _, a := range in.Addresses {
			if a.Addr().Is6() {
				c.errorf(at("address"), "write version 3", "version 2 has no IPv6 and address %s is IPv6", a.Addr())
				break
			}
		}
	}
	c.checkPeersOf(in, "unicast", v.Unicast, at)
}

// checkPeersOf refuses unicast members that cannot work: of a family that the
// instance does not have, or its own addresses. It warns where nothing keeps
// others from speaking in their name.
func (c *carpdParser) checkPeersOf(in *Instance, keyword string, peers []netip.Addr, at func(string) Pos) {
	pos := at(keyword)
	if len(peers) == 0 {
		if hops := at("hops"); hops != in.Pos {
			c.errorf(hops, "remove it, or add "+keyword, "hops has no meaning without %s", keyword)
		}
		return
	}
	if len(in.Keys) == 0 {
		remedy := `write key 1 file "/etc/carpd.key"`
		if in.VRRP != nil && in.VRRP.Version == 2 {
			remedy = "write version 3 and a key"
		}
		c.warnf(pos, remedy, "%s of instance %s has no key: whoever can send in the name of a member decides who "+
			"is MASTER", keyword, in.Name)
	}
	var vips, members [2]bool
	for _, a := range in.Addresses {
		vips[b2i(a.Addr().Is6())] = true
	}
	for _, a := range peers {
		members[b2i(a.Is6())] = true
		if containsAddr(in.Addresses, a) {
			c.errorf(pos, "write the members' own addresses", "%s %s is a virtual address of this instance", keyword, a)
		}
	}
	for i, name := range [2]string{"IPv4", "IPv6"} {
		switch {
		case vips[i] && !members[i]:
			c.warnf(pos, "add one if that network has no multicast", "%s has no %s address, so %s is multicast",
				keyword, name, name)
		case members[i] && !vips[i]:
			c.errorf(pos, "remove it", "%s has an %s address and the instance has no %s addresses", keyword, name, name)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// check compares blocks with each other.
func (c *carpdParser) check() {
	c.checkGroups()
	c.checkWitnesses()
	c.checkInstances()
	c.checkTracks()
	if len(c.c.Instances) == 0 {
		c.warnf(Pos{File: c.c.File}, "write a vrrp block", "there is no instance")
	}
}

func (c *carpdParser) checkGroups() {
	var names []string
	for _, g := range c.c.Groups {
		names = append(names, g.Name)
	}
	for _, r := range c.groupRefs {
		switch {
		case slices.Contains(names, r.name):
		case r.name == DefaultGroup:
			names = append(names, DefaultGroup)
			c.c.Groups = append(c.c.Groups, Group{
				Name: DefaultGroup, Preempt: PreemptNo, AloneAfter: DefaultAloneAfter,
				PrepareTimeout: DefaultPrepareTimeout, WhenSplit: SplitContinue,
			})
		default:
			remedy := fmt.Sprintf("declare it with group %s { ... }", r.name)
			if n := spell.Nearest(r.name, names); n != "" {
				remedy = "did you mean " + n + "?"
			}
			c.errorf(r.pos, remedy, "group %s is not declared", r.name)
		}
	}
	for _, g := range c.c.Groups {
		var first *Instance
		for i := range c.c.Instances {
			in := &c.c.Instances[i]
			if in.Group != g.Name {
				continue
			}
			if first == nil {
				first = in
			} else if a, b := first.Detection(), in.Detection(); 4*max(a, b) > 5*min(a, b) {
				c.warnf(in.Pos, "give all instances of a group the same interval",
					"instances %s and %s of group %s notice a dead master after different times", first.Name, in.Name,
					g.Name)
			}
		}
		if g.WhenSplit == SplitPreferTraffic && !g.RequireSasyncd {
			c.errorf(g.Pos, "add require sasyncd",
				"when-split prefer-traffic of group %s needs sasyncd, which sees the traffic", g.Name)
		}
		if first == nil && !g.Pos.IsZero() {
			c.warnf(g.Pos, "put an instance into it or remove it", "group %s has no instance", g.Name)
		}
	}
}

// checkWitnesses refuses witnesses that say nothing about the network.
func (c *carpdParser) checkWitnesses() {
	for _, g := range c.c.Groups {
		for _, w := range g.Witness {
			if w.IsLinkLocalUnicast() || w.IsLoopback() {
				c.errorf(g.Pos, "name a machine by an address that is routed",
					"witness %s of group %s is not reachable from more than one link", w, g.Name)
			}
			for i := range c.c.Instances {
				if in := &c.c.Instances[i]; containsAddr(in.Addresses, w) {
					c.errorf(g.Pos, "name another machine",
						"witness %s of group %s is a virtual address, of instance %s", w, g.Name, in.Name)
				}
			}
		}
	}
}

// checkAccept warns where a statement keeps out, or does not keep out, what the
// user seems to want.
func (c *carpdParser) checkAccept(in *Instance) {
	if in.VRRP == nil || in.VRRP.Accept {
		return
	}
	if in.VRRP.Priority == 255 {
		c.warnf(in.Pos, "remove accept no, or lower the priority",
			"instance %s has priority 255: the owner of addresses accepts packets to them", in.Name)
		return
	}
	for _, g := range c.c.Groups {
		if g.Name == in.Group && g.RequireSasyncd {
			c.warnf(in.Pos, "remove it where tunnels end on the addresses",
				"accept no of instance %s also keeps out IKE and ESP", in.Name)
		}
	}
}

func (c *carpdParser) checkInstances() {
	for i := range c.c.Instances {
		in := &c.c.Instances[i]
		c.checkAccept(in)
		for j := range c.c.Instances[:i] {
			o := &c.c.Instances[j]
			if in.Device != "" && in.Device == o.Device {
				c.checkNumbers(o, in)
			}
			for _, a := range in.Addresses {
				if containsAddr(o.Addresses, a.Addr()) && !(a.Addr().IsLinkLocalUnicast() && in.Device != o.Device) {
					c.errorf(in.Pos, "give it to one of them",
						"address %s of instance %s already belongs to instance %s", a.Addr(), in.Name, o.Name)
				}
			}
		}
	}
}

// checkNumbers refuses numbers that would share a virtual MAC on one interface.
func (c *carpdParser) checkNumbers(o, in *Instance) {
	a, an := o.number()
	b, bn := in.number()
	if a == 0 || a != b {
		return
	}
	if o.VRRP != nil && in.VRRP != nil {
		ro, ri := o.families(), in.families()
		if !(ro[0] && ri[0] || ro[1] && ri[1]) {
			return // VRRP has a router and a MAC per family
		}
	}
	c.errorf(in.Pos, "give each a number of its own", "%s %d of instance %s is already %s %d of instance %s on %s",
		bn, b, in.Name, an, a, o.Name, in.Device)
}

func (i *Instance) number() (uint8, string) {
	if i.CARP != nil {
		return i.CARP.VHID, "vhid"
	}
	return i.VRRP.VRID, "vrid"
}

func (i *Instance) families() (f [2]bool) {
	for _, a := range i.Addresses {
		f[b2i(a.Addr().Is6())] = true
	}
	return f
}
