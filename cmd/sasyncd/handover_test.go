package main

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
	"sasyncd/sync/peer"
)

// ordered is the MASTER of a pair that is asked to hand over.
func ordered(t *testing.T) (*control, *pairOf) {
	t.Helper()
	x := newPairOf()
	x.verdict(t) // sets the peer's report
	return &control{peers: fakePeers{{Name: "10.9.0.2", Session: new(peer.Session)}},
		own: func() map[netip.Addr]bool { return x.own }, advise: x.facts}, x
}

// TestFailoverRefusesWhatCheckRefuses: an order is refused for the reasons of check,
// with the member, the cause and the remedy.
func TestFailoverRefusesWhatCheckRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		edit   func(x *pairOf)
		answer string
		says   string
	}{
		"healthy": {func(*pairOf) {}, report.AnswerYes, ""},
		"standby's carpd": {func(x *pairOf) { x.peer.Groups[0].Elector = "connection refused" }, report.AnswerNo,
			"10.9.0.2: the election cannot be reached: connection refused"},
		"standby is INIT": {func(x *pairOf) {
			x.peer.Groups[0].Role, x.peer.Groups[0].Reason = "INIT",
				"interface down"
		}, report.AnswerNo, "it is INIT, not BACKUP: interface down"},
		"standby lacks VIPs": {func(x *pairOf) { x.peer.Groups[0].VIPs = nil }, report.AnswerNo,
			"it lacks 192.0.2.1, which the MASTER has"},
		"VRIDs differ": {func(x *pairOf) { x.peer.Groups[0].Carp.Instances[0].ID = 11 }, report.AnswerNo,
			"with id 11, the MASTER's vrrp3 with id 10"},
		"an older release": {func(x *pairOf) { x.status.Members[0].Tells, x.status.Members[0].Report = false, nil },
			report.AnswerUnknown, "its version does not report"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, x := ordered(t)
				tt.edit(x)
				check := x.verdict(t)
				p, err := k.planned(t.Context(), &order{}, func(context.Context) (engine.Status,
					error) {
					return x.status, nil
				})
				if err != nil || p.Answer != tt.answer || check.Answer != tt.answer || len(p.Handovers) != 1 {
					t.Fatalf("%+v, %v; check says %s", p, err, check.Answer)
				}
				err = refused(p)
				if tt.says == "" {
					if err != nil || len(p.Handovers[0].To) != 1 ||
						p.Handovers[0].To[0] != (report.Successor{Peer: "10.9.0.2", Host: "gw2"}) {
						t.Errorf("%+v, %v", p, err)
					}
					return
				}
				for _, want := range []string{tt.says, "remedy: ", "failover -f"} {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("lacks %q: %v", want, err)
					}
				}
			})
		})
	}
}

// TestFailoverWaitsForReports: what a gateway reports is up to a second old, so an
// order is not refused for what is over by then; a forced one does not wait.
func TestFailoverWaitsForReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, x := ordered(t)
		x.peer.Groups[0].Role = "INIT"
		x.verdict(t)
		began := time.Now()
		look := func(context.Context) (engine.Status, error) {
			if time.Since(began) > time.Second {
				x.peer.Groups[0].Role = "BACKUP"
				x.verdict(t)
			}
			return x.status, nil
		}
		if p, err := k.planned(t.Context(), &order{Force: true}, look); err != nil || p.Answer != report.AnswerNo ||
			time.Since(began) != 0 {
			t.Errorf("forced: after %v %+v, %v", time.Since(began), p, err)
		}
		if p, err := k.planned(t.Context(), &order{}, look); err != nil || p.Answer != report.AnswerYes ||
			time.Since(began) > 2*time.Second {
			t.Errorf("after %v %+v, %v", time.Since(began), p, err)
		}
	})
}

// TestFailoverOnABackup names the gateway to run it on.
func TestFailoverOnABackup(t *testing.T) {
	k, x := ordered(t)
	x.status.Groups[0].Role, x.status.Groups[0].Peers[0].Role = "BACKUP", "MASTER"
	look := func(context.Context) (engine.Status, error) { return x.status, nil }
	for name, want := range map[string]string{"": "run `sasyncctl failover` on gw2 (10.9.0.2), the MASTER of outside",
		"outside": "on gw2 (10.9.0.2)", "nosuch": "no such group"} {
		if _, err := k.planned(t.Context(), &order{Group: name}, look); err == nil || !strings.Contains(err.Error(),
			want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	x.status.Groups[0].Peers = nil
	if _, err := k.planned(t.Context(), &order{}, look); err == nil || !strings.Contains(err.Error(),
		"no connected peer is") {
		t.Errorf("nobody: %v", err)
	}
	broken := errors.New("the engine has ended")
	if _, err := k.planned(t.Context(), &order{}, func(context.Context) (engine.Status, error) {
		return engine.Status{},
			broken
	}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// TestPlanTellsTheCost: what is known of what a hand-over costs is told.
func TestPlanTellsTheCost(t *testing.T) {
	k, x := ordered(t)
	g := &x.status.Groups[0]
	g.LastFailover = &engine.Failover{At: time.Unix(1, 0), From: "10.9.0.2", To: "this node", Planned: true,
		GapSeconds: 0.028}
	g.Keying = engine.KeyingStatus{Driver: "strongswan", State: "active", Wanted: 12}
	g.Peers = append(g.Peers, engine.GroupPeerState{Peer: "10.9.0.3", Role: "BACKUP"})
	k.peers = fakePeers{{Name: "10.9.0.2", Session: new(peer.Session)}, {Name: "10.9.0.4"}}
	p := k.outlook(t.Context(), x.status, g, "10.9.0.2")
	if p.Gap == nil || *p.Gap != 0.028 || p.Negotiates != 12 || len(p.HoldBack) != 1 || p.HoldBack[0] != "10.9.0.3" ||
		p.Unasked != 1 {
		t.Errorf("%+v", p)
	}
	g.LastFailover.Planned, g.Keying.Driver = false, "static"
	if p := k.outlook(t.Context(), x.status, g, ""); p.Gap != nil || p.Negotiates != 0 || len(p.HoldBack) != 0 ||
		p.Unasked != 0 {
		t.Errorf("%+v", p)
	}
}

// TestDoctorIsToldOfAll: the judgement, and of each gateway what it has reported.
func TestDoctorIsToldOfAll(t *testing.T) {
	_, x := ordered(t)
	x.peer.Groups[0].Elector = "connection refused"
	x.verdict(t)
	d := x.facts.examined(t.Context(), x.status)
	if d.Check.Answer != report.AnswerNo || len(d.Gateways) != 2 || d.Gateways[0].Name != report.ThisGateway ||
		d.Gateways[0].Elector != "carpd" ||
		d.Gateways[1] != (report.Gateway{Name: "10.9.0.2", Host: "gw2", Reports: true}) {
		t.Errorf("%+v", d)
	}
	x.status.Members[0].Report = nil
	if d := x.facts.examined(t.Context(), x.status); d.Gateways[1] != (report.Gateway{Name: "10.9.0.2"}) {
		t.Errorf("without a report: %+v", d.Gateways)
	}
}
