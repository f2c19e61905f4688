package main

import (
	"context"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/judge"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
)

// examined is what sasyncctl doctor is told: the judgement, and who is judged.
func (f *facts) examined(ctx context.Context, s engine.Status) report.Doctor {
	own, peers := f.collect(ctx, s), f.neighbours(s)
	out := report.Doctor{Check: report.Judged(judge.Judge(f.node, own, peers))}
	add := func(name string, x *judge.Facts) {
		g := report.Gateway{Name: name, Reports: x != nil}
		if x != nil {
			g.Host, g.Version, g.Elector = x.Host, x.Version, x.Tracker
		}
		out.Gateways = append(out.Gateways, g)
	}
	add(report.ThisGateway, own)
	for i := range peers {
		add(peers[i].Name, peers[i].Facts)
	}
	return out
}

// doctor answers sasyncctl doctor.
func (k *control) doctor(ctx context.Context, _ *daemon.Call) (any, error) {
	s, err := k.eng.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := k.advise.examined(ctx, s)
	out.CarpdSocket = k.carpdSocket
	out.Check = k.names.verdict(out.Check)
	return out, nil
}

// carpdSocketOf is where the elector answers, "" where it is not carpd.
func carpdSocketOf(c *conf.Sasyncd) string {
	if c.Lock == conf.LockNone && c.Tracker.Kind == conf.TrackCarpd {
		return c.CarpdSocket
	}
	return ""
}
