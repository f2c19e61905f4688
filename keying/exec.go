package keying

import (
	"context"
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

// Order is what the program of `control exec` is told, as JSON on its standard
// input and as variables.
type Order struct {
	State  string       `json:"state"` // active or passive
	Group  string       `json:"group"`
	Term   uint64       `json:"term"`
	Reason string       `json:"reason"`
	VIPs   []netip.Addr `json:"vips"`
	// Settled, for passive: the VIPs have gone from this machine.
	Settled bool `json:"settled"`
}

// Check refuses an order that was not made here. The program is often a shell
// script of root's, and whoever gives the order may have been taken over.
func (o *Order) Check() error {
	if o.State != "active" && o.State != "passive" {
		return fmt.Errorf("tell the hook: no state %q", o.State)
	}
	for what, s := range map[string]string{"group": o.Group, "reason": o.Reason} {
		if len(s) > maxWords || strings.ContainsFunc(s, func(r rune) bool {
			return r < ' ' || r >= 0x7f ||
				strings.ContainsRune("`$\\\"'", r)
		}) {
			return fmt.Errorf("tell the hook: the %s is not plain text of at most %d characters", what, maxWords)
		}
	}
	return nil
}

// maxWords is the longest reason that a hook is told, in characters.
const maxWords = 200

// plain turns what others say into what Check accepts.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f || strings.ContainsRune("`$\\\"'", r) {
			return '.'
		}
		return r
	}, s)
	return s[:min(len(s), maxWords)]
}

// environment is the same as variables.
func (o *Order) environment() []string {
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
func (h *hook) Passive(ctx context.Context, q PassiveOrder) error {
	return h.run(ctx, Order{State: "passive", Group: h.group, Term: q.Term, Reason: plain(q.Reason),
		Settled: q.Settled})
}

// Active implements Driver.
func (h *hook) Active(ctx context.Context, p Plan, _ func(Outcome)) error {
	return h.run(ctx, Order{State: "active", Group: h.group, Term: p.Term, Reason: plain(p.Reason), VIPs: p.VIPs})
}

func (h *hook) run(ctx context.Context, o Order) error {
	ctx, cancel := context.WithTimeout(ctx, hookLimit)
	defer cancel()
	return h.priv.Hook(ctx, o)
}

// Watch implements Driver.
func (*hook) Watch(context.Context) <-chan Notice { return nil }
