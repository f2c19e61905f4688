package main

import (
	"fmt"
	"log/slog"
	"net/netip"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/kernel/rules"
	"sasyncd/keying"
	"sasyncd/sync/engine"
)

// daemons are the IKE daemons of all groups, one driver each.
type daemons map[string]*keying.Runner

// keyingOf returns the drivers that the configuration names; static makes the
// one of `control static`.
func keyingOf(c *conf.Sasyncd, priv keying.Privileged, static *static, log *slog.Logger) (daemons, error) {
	ds := make(daemons)
	src, err := rules.OpenSources()
	if err != nil {
		return nil, err
	}
	for _, g := range c.Groups {
		if g.Control.Kind == conf.ControlStatic {
			d, err := static.driver(g)
			if err != nil {
				return nil, err
			}
			ds[g.Interface] = keying.NewRunner(g.Interface, d, log)
			continue
		}
		d, err := driverOf(g.Control.Kind, g.Interface, priv, src)
		if err != nil {
			return nil, err
		}
		if d != nil {
			ds[g.Interface] = keying.NewRunner(g.Interface, d, log)
		}
	}
	return ds, nil
}

// driverOf returns the driver of a keyword, nil for none.
func driverOf(k conf.ControlKind, group string, p keying.Privileged, s keying.Sources) (keying.Driver, error) {
	switch k {
	case conf.ControlNone:
		return nil, nil
	case conf.ControlAuto:
		return keying.NewAuto(keying.NewStrongSwan(p), keying.NewLibreswan(p), keying.NewOpenIKED(p, s),
			keying.NewISAKMPD(p)), nil
	case conf.ControlAll:
		return keying.NewAll(keying.NewISAKMPD(p), keying.NewOpenIKED(p, s)), nil // as on OpenBSD
	case conf.ControlStrongswan:
		return keying.NewStrongSwan(p), nil
	case conf.ControlStrongswanHA:
		return keying.NewStrongSwanHA(p), nil
	case conf.ControlLibreswan:
		return keying.NewLibreswan(p), nil
	case conf.ControlIked:
		return keying.NewOpenIKED(p, s), nil
	case conf.ControlIsakmpd:
		return keying.NewISAKMPD(p), nil
	case conf.ControlExec:
		return keying.NewExec(p, group), nil
	}
	return nil, fmt.Errorf("control %s: no such driver", k)
}

// tasks are what the runners do in the background.
func (ds daemons) tasks() []daemon.Task {
	var out []daemon.Task
	for _, r := range ds {
		out = append(out, daemon.NewTask(r.String(), r.Run))
	}
	return out
}

// Passive implements engine.Keying.
func (ds daemons) Passive(group string, term uint64, reason string, settled bool, vips []netip.Addr, done func(error)) {
	if r := ds[group]; r != nil {
		r.Passive(keying.PassiveOrder{Term: term, Reason: reason, Settled: settled, VIPs: vips}, done)
	} else if done != nil {
		go done(nil)
	}
}

// Active implements engine.Keying.
func (ds daemons) Active(group string, term uint64, reason string, vips []netip.Addr) {
	if r := ds[group]; r != nil {
		r.Active(keying.Plan{Term: term, Reason: reason, VIPs: vips})
	}
}

// Status implements engine.Keying.
func (ds daemons) Status(group string) engine.KeyingStatus {
	r := ds[group]
	if r == nil {
		return engine.KeyingStatus{}
	}
	s := r.Status()
	k := engine.KeyingStatus{Driver: s.Driver, State: s.State, Error: s.Error, Wanted: s.Last.Wanted, Up: s.Last.Up,
		Failed: s.Last.Failed, PromoteSeconds: s.PromoteSeconds, Restarts: s.Restarts,
		Absent: s.Absent, Version: s.Info.Version, Probed: s.Probed, ProbeError: s.ProbeError,
		Stop: s.Info.Stop, FlushesOnStart: r.Caps().FlushesOnStart, LoadsPolicies: r.Caps().LoadsPolicies}
	for _, l := range s.Info.Lint {
		k.Lint = append(k.Lint, [2]string{l.What, l.Remedy})
	}
	return k
}
