package engine

import (
	"context"
	"net/netip"
	"slices"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// ownAddresses is what is done for the own addresses of a BACKUP.
type ownAddresses struct {
	bypassed bool // bypass policies may be in the kernel
	asking   bool // Config.Bypass is under way
}

// bypass keeps the own addresses of a BACKUP reachable, and takes that back when it is
// MASTER. It goes over all policies, so it does so beside the engine.
func (e *Engine) bypass(ctx context.Context, policies []*sadb.Policy) {
	vips := e.bypassedVIPs()
	if e.cfg.Bypass == nil || e.own.asking || len(vips) == 0 && !e.own.bypassed {
		return
	}
	e.own.asking, e.own.bypassed = true, true
	go func() {
		err := e.cfg.Bypass(ctx, vips, policies)
		_ = e.do(ctx, func() { // fails when the engine has ended
			e.own.asking = false
			if err != nil {
				e.log.Warn("own addresses inside are not reachable from remote sites", "err", err)
			} else {
				e.own.bypassed = len(vips) > 0
			}
			if !slices.Equal(vips, e.bypassedVIPs()) { // a role has changed meanwhile
				e.dump.policies.known = 0
				e.requestDump(ctx)
			}
		})
	}()
}

// bypassedVIPs returns the virtual IPs of the groups of which this node is BACKUP.
func (e *Engine) bypassedVIPs() (vips []netip.Addr) {
	for _, g := range e.order {
		if g.role == wire.RoleBackup && !g.rcv.Reception().Closed() {
			vips = append(vips, g.own.vips...)
		}
	}
	return vips
}
