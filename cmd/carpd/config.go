package main

import (
	"net/netip"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/auth"
	"sasyncd/carp/engine"
	"sasyncd/carp/track"
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
			Name: g.Name, Preempt: preempt(g.Preempt), PreemptDelay: g.PreemptDelay,
			Witness: g.WhenSplit == conf.SplitWitness, PreferTraffic: g.WhenSplit == conf.SplitPreferTraffic,
			DemoteAtStart: int(g.DemoteAtStart), StartHold: g.StartHold,
			AloneAfter: g.AloneAfter, PrepareTimeout: g.PrepareTimeout, Fence: g.RequireFence,
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
		VIPs: addresses(r.Addresses), Peers: r.Unicast, Hops: in.Hops, Trailer: trailer(in), Virtual: in.VirtualMAC,
		Lease: in.Lease == conf.LeaseNftables,
	}
	switch {
	case in.CARP != nil:
		out.Machine = carp.CARPRouter(in.CARP.VHID, in.CARP.AdvBase, in.CARP.AdvSkew, dialect(in.CARP.Dialect))
		out.Auth, out.Hashed = engine.Password(in.CARP.Pass.Bytes()), addresses(in.Addresses)
	case in.VRRP.Version == 2:
		out.Machine.Proto, out.Auth = carp.VRRP2, engine.Password(in.VRRP.Pass.Bytes())
	}
	if in.VRRP != nil {
		out.Refuse = !in.VRRP.Accept
		out.Machine.ID, out.Machine.Priority, out.Machine.Interval = in.VRRP.VRID, in.VRRP.Priority, in.VRRP.Interval
		switch in.VRRP.Checksum {
		case conf.ChecksumPseudo:
			out.Checksum = engine.ChecksumPseudo
		case conf.ChecksumMessage:
			out.Checksum = engine.ChecksumMessage
		}
	}
	out.Machine.Preempt = preempt(in.Preempt)
	return out
}

func preempt(p conf.Preempt) carp.Preempt {
	switch p {
	case conf.PreemptNo:
		return carp.PreemptNo
	case conf.PreemptYes:
		return carp.PreemptYes
	case conf.PreemptInSync:
		return carp.PreemptInSync
	}
	return carp.PreemptGroup
}

func dialect(d conf.Dialect) carp.Dialect {
	if d == conf.DialectFreeBSD {
		return carp.FreeBSD
	}
	return carp.OpenBSD
}

func trailer(in *conf.Instance) auth.Policy {
	p := auth.Policy{}
	switch in.Auth {
	case conf.AuthReceiveOnly:
		p.Mode = auth.ReceiveOnly
	case conf.AuthPermissive:
		p.Mode = auth.Permissive
	case conf.AuthEnforce:
		p.Mode = auth.Enforce
	}
	for _, k := range in.Keys {
		p.Keys = append(p.Keys, auth.Key{ID: k.ID, Secret: k.Secret.Bytes()})
	}
	return p
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

func trackConfig(ts []conf.Track) []track.Config {
	var out []track.Config
	for _, t := range ts {
		out = append(out, track.Config{
			Kind: track.Kind(t.Kind), Target: t.Target, Addr: t.Addr, Group: t.Group,
			Demote: int(t.Demote), Interval: t.Interval, Timeout: t.Timeout, Fail: int(t.Fail),
			Device: t.Interface, Source: t.Source, Multiplier: int(t.Multiplier),
		})
	}
	return out
}

// Bounds of the rhythm in which a witness is asked, and the shortest time after
// which it counts as lost.
const (
	witnessMin  = 50 * time.Millisecond
	witnessMax  = time.Second
	witnessLost = time.Second
)

// witnessConfig lists the witnesses of the groups that want one. A takeover
// waits for an answer that is later than the advertisement that was missed
// first, so two requests in an interval let it wait for nothing.
func witnessConfig(c *conf.Carpd, cfg engine.Config) []track.WitnessConfig {
	var out []track.WitnessConfig
	for _, g := range c.Groups {
		if g.WhenSplit != conf.SplitWitness {
			continue
		}
		shortest, longest := time.Hour, time.Duration(0)
		for _, r := range cfg.Routers {
			if r.Group == g.Name {
				shortest, longest = min(shortest, r.Machine.Interval), max(longest, r.Machine.Interval)
			}
		}
		out = append(out, track.WitnessConfig{Group: g.Name, Addrs: g.Witness,
			Each: min(max(shortest/2, witnessMin), witnessMax), Lost: max(witnessLost, 4*longest)})
	}
	return out
}
