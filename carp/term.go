package carp

// Bounds of the terms that a client tells. Terms count masterships; each that is
// believed is remembered for good, and the next mastership is numbered above it.
const (
	maxTermStep = 1 << 32 // above what the group knows
	maxTerm     = 1 << 61 // half of the highest that sasyncd sends
)

// believable reports whether the group may take over a term that a client tells.
func (g *Group) believable(term uint64) bool {
	return term <= g.seen || term-g.seen <= maxTermStep && term <= maxTerm
}

// hear takes over a term that was seen elsewhere. One that cannot be is no reason to
// disbelieve the rest of what a client says.
func (g *Group) hear(term uint64) error {
	if !g.believable(term) {
		return ErrHighTerm
	}
	g.seen = max(g.seen, term)
	return nil
}
