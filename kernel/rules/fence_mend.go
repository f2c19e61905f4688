package rules

import (
	"context"
	"fmt"
	"net/netip"

	"sasyncd/sync/sadb"
)

// FenceMended is what [Fence.Mend] has repaired.
type FenceMended struct {
	Closed []netip.Addr // were not fenced any more, and are again
	Opened []netip.Addr // somebody else had fenced them, and they are not any more
	Gated  []netip.Addr // IPv6: the rule of the gate was gone, and is there again
	Routes int          // of the gate, which were gone and are there again
}

// Mend makes the fence of vips what [Fence.Set] and [Fence.Clear] of this process have
// last made it, whoever changed it since, and says what that was. It does not touch
// addresses that this process has neither fenced nor cleared. A route of the gate
// that it restores lasts for FenceLifetime.
func (f *Fence) Mend(ctx context.Context, vips ...netip.Addr) (m FenceMended, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rules, err := f.routing.rules(ctx)
	if err != nil {
		return m, fmt.Errorf("mend fence: %w", err)
	}
	fenced, gated := make(map[netip.Addr]bool), make(map[netip.Addr]bool)
	for _, r := range rules {
		fenced[r.src] = fenced[r.src] || r.isFence()
		gated[r.src] = gated[r.src] || r.isGate()
	}
	var changes []change
	var counts []func()
	add := func(c change, done func()) { changes, counts = append(changes, c), append(counts, done) }
	six := false
	for _, vip := range vips {
		_, open := f.open[vip]
		closed := f.closed[vip]
		if closed && !fenced[vip] {
			add(addRule(rule{src: vip, pref: FencePref}), func() { m.Closed = append(m.Closed, vip) })
		}
		if f.selfClosing && (open || closed) && sadb.FamilyOf(vip) == sadb.FamilyIPv6 {
			six = true
		}
	}
	// The ways before the rules that lead there, and the gate before the fence opens.
	for _, link := range f.gateLinks(vips) {
		add(newRoute(way(link, FenceLifetime)), func() { m.Routes++ })
	}
	if six {
		add(end(), func() { m.Routes++ })
	}
	for _, vip := range vips {
		_, open := f.open[vip]
		if f.selfClosing && (open || f.closed[vip]) && sadb.FamilyOf(vip) == sadb.FamilyIPv6 && !gated[vip] {
			add(addRule(gateRule(vip)), func() { m.Gated = append(m.Gated, vip) })
		}
	}
	for _, vip := range vips {
		if _, open := f.open[vip]; open && fenced[vip] {
			add(delRule(rule{src: vip, pref: FencePref}), func() { m.Opened = append(m.Opened, vip) })
		}
	}
	// What the kernel says was there already, or gone, is no repair.
	done, err := f.routing.applyEach(changes...)
	for i, count := range counts {
		if done[i] {
			count()
		}
	}
	if err != nil {
		return m, fmt.Errorf("mend fence: %w", err)
	}
	return m, nil
}

func (r rule) isFence() bool { return r.pref == FencePref && r.table == 0 }
func (r rule) isGate() bool  { return r.pref == FenceGatePref && r.table == FenceGateTable }
