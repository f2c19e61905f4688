package scope

import (
	"fmt"
	"slices"

	"sasyncd/sync/sadb"
)

// Local is what the kernel has that is no group's: its tunnels end on other addresses
// than virtual ones, so it is not replicated. That is right for tunnels of this node
// itself, and wrong for those in whose configuration the virtual IP was forgotten.
type Local struct {
	SAs      int
	Policies int    // with templates; others protect nothing
	Example  string // "192.0.2.2 > 198.51.100.1"; the ends of an SA, else of a policy's template
}

// LocalScan is what the reading under way has shown of it.
type LocalScan struct {
	Found  Local
	Void   bool    // some SA may not have been seen
	Scopes []Scope // of all groups
}

// SA takes an SA of the reading under way.
func (l *LocalScan) SA(sa *sadb.SA) {
	if !sa.Replicable() || slices.ContainsFunc(l.Scopes, func(s Scope) bool {
		return s.Owns(sa) || s.skip[sa.Src] || s.skip[sa.Key.Dst]
	}) {
		return
	}
	if l.Found.SAs++; l.Found.SAs == 1 {
		l.Found.Example = fmt.Sprintf("%v > %v", sa.Src, sa.Key.Dst)
	}
}

// LocalPolicies counts those of a reading. It is safe for concurrent use, as scopes never
// change.
func LocalPolicies(scopes []Scope, list []*sadb.Policy) (found Local) {
	for _, p := range list {
		if p.Socket || len(p.Templates) == 0 || slices.ContainsFunc(scopes, func(s Scope) bool {
			return s.Policy(p) || slices.ContainsFunc(p.Templates, func(t sadb.Template) bool {
				return s.skip[t.Src] ||
					s.skip[t.Dst]
			})
		}) {
			continue
		}
		found.Policies++
		if t := p.Templates[0]; found.Example == "" && t.Src.IsValid() && !t.Src.IsUnspecified() {
			found.Example = fmt.Sprintf("%v > %v", t.Src, t.Dst)
		}
	}
	return found
}
