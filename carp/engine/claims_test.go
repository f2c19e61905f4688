package engine

import (
	"net/netip"
	"testing"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/packet"
)

// TestClaimsOfADeadMaster: what the kernel of the MASTER before still answers until its
// leases end is no claim of a stranger; what it answers later is.
func TestClaimsOfADeadMaster(t *testing.T) {
	e, _ := testEngine(t, nil)
	r := e.routers[0]
	ip, other := r.VIPs[0], packet.MAC{2, 0, 0, 0, 0, 9}
	const took = 100 * time.Second
	e.claims.book.Aim([]netip.Addr{ip}, time.Second)
	claims := func(at, now time.Duration) int {
		e.claims.book.Claimed(ip, other, at)
		var out api.RouterState
		e.describeClaims(r, &out, &carp.Snapshot{State: carp.Master, Age: now - took}, now)
		return len(out.Claims)
	}
	for _, at := range []time.Duration{took - time.Second, took + time.Second, took + r.Machine.Lease()} {
		if n := claims(at, at+2*time.Second); n != 0 {
			t.Errorf("%d claims of an answer %v after the takeover, the lease is %v", n, at-took, r.Machine.Lease())
		}
	}
	late := took + r.Machine.Lease() + 2*time.Second
	if n := claims(late, late+time.Second); n != 1 {
		t.Errorf("%d claims of an answer %v after the takeover, want 1", n, late-took)
	}
}
