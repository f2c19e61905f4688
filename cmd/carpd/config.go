package main

import (
	"net/netip"

	"sasyncd/carp"
	"sasyncd/carp/engine"
	"sasyncd/cmd/internal/conf"
)

// requireName is the client that `require sasyncd` means.
const requireName = "sasyncd"

// engineConfig turns the file into what the engine runs. Keywords that have no
// effect yet were refused when the file was read.
func engineConfig(c *conf.Carpd) engine.Config {
	var out engine.Config
	for _, g := range c.Groups {
		gc := carp.GroupConfig{
			Name: g.Name, Preempt: g.Preempt == conf.PreemptYes,
			DemoteAtStart: int(g.DemoteAtStart), StartHold: g.StartHold,
			AloneAfter: g.AloneAfter, PrepareTimeout: g.PrepareTimeout,
		}
		if g.RequireSasyncd {
			gc.Require = []string{requireName}
		}
		out.Groups = append(out.Groups, gc)
	}
	for i := range c.Instances {
		in := &c.Instances[i]
		for _, r := range in.Routers() {
			out.Routers = append(out.Routers, router(in, r))
		}
	}
	return out
}

func router(in *conf.Instance, r conf.Router) engine.Router {
	out := engine.Router{
		Instance: in.Name, Group: in.Group, Device: in.Device,
		Machine: carp.RouterConfig{Proto: carp.VRRP3, ID: in.VRRP.VRID, Priority: in.VRRP.Priority, Interval: in.VRRP.Interval},
		VIPs:    addresses(r.Addresses), Peers: r.Unicast,
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
