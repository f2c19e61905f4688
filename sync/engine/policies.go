package engine

import (
	"time"

	"sasyncd/sync/wire"
)

// The kernel announces every change of a policy, and nothing of one moves by itself that
// matters here. So policies are looked at less often than SAs, and by a fingerprint of all
// of them: it is enough to know that they are as a reading has shown them in which nothing
// was new, changed or gone.

const (
	// policiesEvery is how often they are looked at where nothing else asks for it.
	policiesEvery = 5 * time.Second
	// policiesWhole is for how long a fingerprint may stand for them. What else depends on
	// them, the node's own addresses above all, is not announced.
	policiesWhole = 10 * time.Second
)

// policyLook is what is known of the kernel's policies as a whole.
type policyLook struct {
	known uint64    // fingerprint of those that were quiet in each group, 0 for none
	at    time.Time // when they were last looked at
	whole time.Time // when they were last listed
	quiet bool      // in the groups of the reading that ends
}

// due reports whether time asks for a look.
func (p *policyLook) due(now time.Time) bool { return now.Sub(p.at) >= policiesEvery }

// ends notes the end of a reading, which is void where it was given up or is older than
// what is known.
func (p *policyLook) ends(r dumpResult, began time.Time, void bool) {
	switch {
	case void || !p.quiet:
		p.known = 0
	case !r.known:
		p.known, p.whole = r.print, began
	}
}

// knownPolicies returns the fingerprint of policies that need not be listed, 0 for none.
func (e *Engine) knownPolicies(now time.Time) uint64 {
	if now.Sub(e.dump.policies.whole) >= policiesWhole {
		return 0
	}
	for _, g := range e.order {
		if g.role == wire.RoleMaster && g.pub == nil || g.role != wire.RoleMaster && !g.rcv.Adopted() {
			return 0
		}
	}
	return e.dump.policies.known
}

// policiesKnown notes that the reading that ends has shown policies which are known.
func (g *group) policiesKnown() {
	if g.reading.scan.rcv != nil {
		g.rcv.PoliciesKnown()
	} else {
		g.reading.scan.pub.PoliciesKnown()
	}
}

// policiesQuiet reports whether the reading that ends has shown nothing new of them.
func (g *group) policiesQuiet() bool {
	if g.pub != nil {
		return g.pub.PoliciesQuiet()
	}
	return g.role != wire.RoleMaster && g.rcv.PoliciesQuiet()
}
