package keying

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// hookLimit ends a hook that hangs.
const hookLimit = 8 * time.Second

// hook runs a program at each change. Its exit code is the verdict: what ends
// with anything but 0 is tried again.
type hook struct {
	priv  Privileged
	group string
}

// NewExec returns the driver that runs the program of `control exec`.
func NewExec(p Privileged, group string) Driver { return &hook{p, group} }

// order is what the program is told, as JSON on its standard input.
type order struct {
	State  string       `json:"state"` // active or passive
	Group  string       `json:"group"`
	Term   uint64       `json:"term"`
	Reason string       `json:"reason"`
	VIPs   []netip.Addr `json:"vips"`
	// Settled, for passive: the VIPs have gone from this machine.
	Settled bool `json:"settled"`
}

// environment is the same as variables.
func (o order) environment() []string {
	var vips []string
	for _, v := range o.VIPs {
		vips = append(vips, v.String())
	}
	settled := "no"
	if o.Settled {
		settled = "yes"
	}
	return []string{"SASYNCD_STATE=" + o.State, "SASYNCD_GROUP=" + o.Group, fmt.Sprintf("SASYNCD_TERM=%d", o.Term),
		"SASYNCD_REASON=" + o.Reason, "SASYNCD_VIPS=" + strings.Join(vips, " "), "SASYNCD_SETTLED=" + settled}
}

// Name implements Driver.
func (*hook) Name() string { return "exec" }

// Caps implements Driver.
func (*hook) Caps() Caps { return Caps{} }

// Probe implements Driver.
func (*hook) Probe(context.Context, []netip.Addr) (Info, error) { return Info{}, nil }

// Passive implements Driver.
func (h *hook) Passive(ctx context.Context, q Hush) error {
	return h.run(ctx, order{State: "passive", Group: h.group, Term: q.Term, Reason: q.Reason, Settled: q.Settled})
}

// Active implements Driver.
func (h *hook) Active(ctx context.Context, p Plan, _ func(Outcome)) error {
	return h.run(ctx, order{State: "active", Group: h.group, Term: p.Term, Reason: p.Reason, VIPs: p.VIPs})
}

func (h *hook) run(ctx context.Context, o order) error {
	ctx, cancel := context.WithTimeout(ctx, hookLimit)
	defer cancel()
	if o.VIPs == nil {
		o.VIPs = []netip.Addr{}
	}
	in, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("tell the hook: %w", err)
	}
	return h.priv.Hook(ctx, o.environment(), append(in, '\n'))
}

// Watch implements Driver.
func (*hook) Watch(context.Context) <-chan Notice { return nil }
