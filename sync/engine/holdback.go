package engine

import (
	"time"

	"sasyncd/sync/sadb"
)

// holdback keeps deletions that would leave traffic uncovered: a flush, a mass
// deletion, the last SA of a tunnel. They are forwarded when the master is
// still master after a while, and dropped when it is not, for then they were
// the shutdown of an IKE daemon or an operator's accident on a dying node.
type holdback struct {
	sas      map[sadb.SAKey]time.Time // when to forward
	policies map[sadb.PolicyKey]time.Time
}

func newHoldback() *holdback {
	return &holdback{make(map[sadb.SAKey]time.Time), make(map[sadb.PolicyKey]time.Time)}
}

// holdSA keeps the deletion of k until the given time, or longer if it is
// kept already; it reports whether it is new.
func (h *holdback) holdSA(k sadb.SAKey, until time.Time) bool {
	if _, ok := h.sas[k]; ok {
		return false
	}
	h.sas[k] = until
	return true
}

func (h *holdback) holdPolicy(k sadb.PolicyKey, until time.Time) bool {
	if _, ok := h.policies[k]; ok {
		return false
	}
	h.policies[k] = until
	return true
}

// put cancels a deletion: the item is back.
func (h *holdback) putSA(k sadb.SAKey)         { delete(h.sas, k) }
func (h *holdback) putPolicy(k sadb.PolicyKey) { delete(h.policies, k) }

// due takes out what has been held long enough.
func (h *holdback) due(now time.Time) (m missing) {
	for k, t := range h.sas {
		if !now.Before(t) {
			m.sas = append(m.sas, k)
			delete(h.sas, k)
		}
	}
	for k, t := range h.policies {
		if !now.Before(t) {
			m.policies = append(m.policies, k)
			delete(h.policies, k)
		}
	}
	return m
}

func (h *holdback) len() int { return len(h.sas) + len(h.policies) }
