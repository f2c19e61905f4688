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

// release has those deletions of SAs forwarded now of which covered says so. It may pause.
func (h *holdback) release(now time.Time, covered func(sadb.SAKey) bool) {
	for k := range h.sas {
		if covered(k) {
			if _, held := h.sas[k]; held { // and not taken back in a pause
				h.sas[k] = now
			}
		}
	}
}

// due returns what has been held long enough. It counts each item.
func (h *holdback) due(now time.Time, item func()) (m missing) {
	for k, t := range h.sas {
		if item(); !now.Before(t) {
			if m.sas == nil {
				m.sas = make([]sadb.SAKey, 0, len(h.sas)) // mostly all of them
			}
			m.sas = append(m.sas, k)
		}
	}
	for k, t := range h.policies {
		if item(); !now.Before(t) {
			if m.policies == nil {
				m.policies = make([]sadb.PolicyKey, 0, len(h.policies))
			}
			m.policies = append(m.policies, k)
		}
	}
	return m
}

// takeSA ends the holding of a deletion. It reports false if the item has come
// back.
func (h *holdback) takeSA(k sadb.SAKey) bool {
	_, ok := h.sas[k]
	delete(h.sas, k)
	return ok
}

func (h *holdback) takePolicy(k sadb.PolicyKey) bool {
	_, ok := h.policies[k]
	delete(h.policies, k)
	return ok
}

func (h *holdback) len() int { return len(h.sas) + len(h.policies) }
