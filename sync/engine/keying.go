package engine

import (
	"context"
	"net/netip"
	"time"

	"sasyncd/sync/wire"
)

// Keying is what the engine needs of the IKE daemons. Its methods return at
// once, keep the order in which they are called, and ignore orders of older
// terms than they have had.
type Keying interface {
	// Passive orders the group's daemon to be silent without telling its peers
	// anything. done, if not nil, is called once, from any goroutine, when no
	// IKE packet can leave any more or with the reason why that is not sure.
	// settled says that the virtual IPs have gone from this machine; before
	// that, the kernel's SAs still carry traffic and must stay as they are. vips
	// are the group's, wherever they are; none before the elector has told them.
	Passive(group string, term uint64, reason string, settled bool, vips []netip.Addr, done func(error))
	// Active orders it to negotiate. The virtual IPs are up; SAs, policies and
	// counters are final.
	Active(group string, term uint64, reason string, vips []netip.Addr)
	// Status tells how far the last order has come; it never waits.
	Status(group string) KeyingStatus
}

// KeyingStatus is the IKE daemon of a group. The zero value is a group whose
// daemon is left alone.
type KeyingStatus struct {
	Driver string `json:"driver"`
	State  string `json:"state"` // boot, passive, activating, active, passivating
	Error  string `json:"error,omitempty"`
	// Of the tunnels to be negotiated by this node; all 0 while it is not MASTER.
	Wanted int `json:"wanted"`
	Up     int `json:"up"`
	Failed int `json:"failed"`
	// Lint is what in its configuration would harm a failover, each with its remedy.
	Lint [][2]string `json:"lint,omitempty"`
	// Absent: it does not run. Probed: this is known, and so is Version, which is "" where
	// it does not tell. ProbeError is why it and its configuration cannot be looked at.
	Absent     bool   `json:"absent,omitempty"`
	Version    string `json:"version,omitempty"`
	Probed     bool   `json:"-"`
	ProbeError string `json:"probe_error,omitempty"`
	// PromoteSeconds is how long its last promotion took, Restarts how often it
	// was seen to go and come back.
	PromoteSeconds float64 `json:"promote_seconds"`
	Restarts       int     `json:"restarts"`
	// Stop is what a stop of it by the service manager does; "" if that is not known.
	Stop string `json:"stop,omitempty"`
	// LoadsPolicies: it has policies in any role, of its own and not the master's.
	LoadsPolicies bool `json:"-"`
	// FlushesOnStart: its start empties the kernel's table of SAs.
	FlushesOnStart bool `json:"-"`
}

// silenceLimit is how long a hand-over waits for the IKE daemon. Beyond that
// the fence alone keeps it quiet.
const silenceLimit = time.Second

// tellKeying repeats to the IKE daemon what the group's role asks of it.
func (e *Engine) tellKeying(g *group) {
	switch {
	case e.cfg.Keying == nil:
	case g.role == wire.RoleMaster:
		e.cfg.Keying.Active(g.name, g.term, g.reason, g.own.vips)
	default:
		e.cfg.Keying.Passive(g.name, g.term, g.reason, true, g.own.vips, nil)
	}
}

// loading reports whether the keying is on its way to the policies that it is to
// have. Where it has failed nothing is under way, though it is tried again.
func (e *Engine) loading(g *group) bool {
	if e.cfg.Keying == nil {
		return false
	}
	switch s := e.cfg.Keying.Status(g.name); {
	case s.Driver == "" || s.Error != "":
		return false
	case g.role == wire.RoleMaster:
		return s.State != keyingActive
	default:
		return s.LoadsPolicies && s.State != keyingPassive
	}
}

// States of KeyingStatus in which an order has been carried out.
const (
	keyingActive  = "active"
	keyingPassive = "passive"
)

// flushesOnStart reports whether a flush is how the group's IKE daemon starts.
func (e *Engine) flushesOnStart(g *group) bool {
	return e.cfg.Keying != nil && e.cfg.Keying.Status(g.name).FlushesOnStart
}

// silence makes the IKE daemon of a master that is about to go passive, beside
// the final counters; h waits for both.
func (e *Engine) silence(ctx context.Context, g *group, h *handover) {
	if e.cfg.Keying == nil {
		h.silent = true
		return
	}
	h.silentBy = time.Now().Add(silenceLimit)
	e.cfg.Keying.Passive(g.name, g.term, "hand-over", false, g.own.vips, func(err error) {
		_ = e.do(ctx, func() { // fails when the engine has ended
			if err != nil {
				e.log.Error("the ike daemon may still speak, only the fence keeps it quiet", "group", g.name,
					"err", err)
			}
			h.silent = true
			e.advanceHandover(g, h, time.Now())
		})
	})
}
