package replica

import (
	"time"

	"sasyncd/sync/sadb"
)

// Holdback keeps deletions that would leave traffic uncovered: a flush, a mass
// deletion, the last SA of a tunnel. They are forwarded when the master is
// still master after a while, and dropped when it is not, for then they were
// the shutdown of an IKE daemon or an operator's accident on a dying node.
type Holdback struct {
	sas      map[sadb.SAKey]time.Time // when to forward
	policies map[sadb.PolicyKey]time.Time
}

// NewHoldback returns one that keeps nothing.
func NewHoldback() *Holdback {
	return &Holdback{make(map[sadb.SAKey]time.Time), make(map[sadb.PolicyKey]time.Time)}
}

// HoldSA keeps the deletion of an SA until the given time. It reports false, and changes
// nothing, if the deletion is kept already.
func (h *Holdback) HoldSA(k sadb.SAKey, until time.Time) bool {
	if _, ok := h.sas[k]; ok {
		return false
	}
	h.sas[k] = until
	return true
}

// HoldPolicy is HoldSA for a policy.
func (h *Holdback) HoldPolicy(k sadb.PolicyKey, until time.Time) bool {
	if _, ok := h.policies[k]; ok {
		return false
	}
	h.policies[k] = until
	return true
}

// CancelSA drops the deletion of an SA, which is back.
func (h *Holdback) CancelSA(k sadb.SAKey) { delete(h.sas, k) }

// CancelPolicy drops the deletion of a policy, which is back.
func (h *Holdback) CancelPolicy(k sadb.PolicyKey) { delete(h.policies, k) }

// Release has those deletions of SAs forwarded now of which covered says so. It may pause.
func (h *Holdback) Release(now time.Time, covered func(sadb.SAKey) bool) {
	for k := range h.sas {
		if covered(k) {
			if _, held := h.sas[k]; held { // and not taken back in a pause
				h.sas[k] = now
			}
		}
	}
}

// Due returns what has been held long enough. It counts each item.
func (h *Holdback) Due(now time.Time, item func()) (m Missing) {
	for k, t := range h.sas {
		if item(); !now.Before(t) {
			if m.SAs == nil {
				m.SAs = make([]sadb.SAKey, 0, len(h.sas)) // mostly all of them
			}
			m.SAs = append(m.SAs, k)
		}
	}
	for k, t := range h.policies {
		if item(); !now.Before(t) {
			if m.Policies == nil {
				m.Policies = make([]sadb.PolicyKey, 0, len(h.policies))
			}
			m.Policies = append(m.Policies, k)
		}
	}
	return m
}

// TakeSA ends the holding of a deletion. It reports false if the item has come
// back.
func (h *Holdback) TakeSA(k sadb.SAKey) bool {
	_, ok := h.sas[k]
	delete(h.sas, k)
	return ok
}

// TakePolicy is TakeSA for a policy.
func (h *Holdback) TakePolicy(k sadb.PolicyKey) bool {
	_, ok := h.policies[k]
	delete(h.policies, k)
	return ok
}

// Len returns how many deletions are kept.
func (h *Holdback) Len() int { return len(h.sas) + len(h.policies) }
