package main

import (
	"net/netip"

	"sasyncd/carp"
	"sasyncd/carp/engine"
	"sasyncd/cmd/internal/conf"
)

// requireName is the client that `require sasyncd` means.
const requireName = "sasyncd"

// engineConfig turns the file into what the engine runs. What the engine cannot
// do yet is an error at its place in the file.
func engineConfig(c *conf.Carpd) (engine.Config, error) {
	var out engine.Config
	var errs conf.Errors
	missing := func(pos conf.Pos, what, remedy string) {
		errs = append(errs, conf.Error{Pos: pos, Problem: what + " is not supported yet", Remedy: remedy})
	}
	for _, g := range c.Groups {
		gc := carp.GroupConfig{
			Name: g.Name, Preempt: g.Preempt != conf.PreemptNo && g.Preempt != conf.PreemptDefault,
			DemoteAtStart: int(g.DemoteAtStart), StartHold: g.StartHold,
			AloneAfter: g.AloneAfter, PrepareTimeout: g.PrepareTimeout,
		}
		if g.RequireSasyncd {
			gc.Require = []string{requireName}
		}
		if g.PreemptDelay > 0 {
			missing(g.Pos, "a delay of `preempt`", "leave it out")
		}
		if g.WhenSplit == conf.SplitWitness {
			missing(g.Pos, "`when-split witness`", "use `continue` or `prefer-traffic`")
		}
		out.Groups = append(out.Groups, gc)
	}
	for _, t := range c.Tracks {
		missing(t.Pos, "`track`", "leave it out")
	}
	for i := range c.Instances {
		in := &c.Instances[i]
		switch {
		case in.CARP != nil:
			missing(in.Pos, "`carp`", "use a `vrrp` block")
			continue
		case in.VirtualMAC:
			missing(in.Pos, "`mac virtual`", "leave it out")
		case in.Lease == conf.LeaseNftables:
			missing(in.Pos, "`lease nftables`", "leave it out")
		case len(in.Keys) > 0 || in.Auth != conf.AuthNone:
			missing(in.Pos, "an HMAC key", "leave it out")
		case in.Preempt != conf.PreemptDefault:
			missing(in.Pos, "`preempt` of an instance", "write it into the group")
		case !in.VRRP.Accept:
			missing(in.Pos, "`accept no`", "leave it out")
		}
		for _, r := range in.Routers() {
			out.Routers = append(out.Routers, router(in, r))
		}
	}
	if len(errs) > 0 {
		return out, errs
	}
	return out, nil
}

func router(in *conf.Instance, r conf.Router) engine.Router {
	out := engine.Router{
		Instance: in.Name, Group: in.Group, Device: in.Device,
		Machine: carp.RouterConfig{Proto: carp.VRRP3, ID: in.VRRP.VRID, Priority: in.VRRP.Priority, Interval: in.VRRP.Interval},
		Peers:   r.Unicast,
	}
	if in.VRRP.Version == 2 {
		out.Machine.Proto = carp.VRRP2
		out.Auth = engine.Password(in.VRRP.Pass.Bytes())
	}
	switch in.VRRP.Checksum {
	case conf.ChecksumPseudo:
		out.Checksum = engine.ChecksumPseudo
	case conf.ChecksumMessage:
		out.Checksum = engine.ChecksumMessage
	}
	out.VIPs = addresses(r.Addresses)
	return out
}

// addresses drops the prefix lengths: a virtual address is always a host
// address here, see package vip.
func addresses(ps []netip.Prefix) []netip.Addr {
	out := make([]netip.Addr, 0, len(ps))
	for _, p := range ps {
		out = append(out, p.Addr())
	}
	return out
}
