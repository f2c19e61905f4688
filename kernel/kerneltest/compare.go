package kerneltest

import (
	"net/netip"

	"github.com/google/go-cmp/cmp"

	"sasyncd/sync/sadb"
)

// Comparers are the options for cmp.Diff on sadb types: keys are compared but
// never printed, and what is local to a node or moves with time (tags, ages,
// policy use) is left out.
func Comparers() []cmp.Option {
	return []cmp.Option{
		cmp.Comparer(func(a, b sadb.Secret) bool { return a.Equal(b) }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.FilterPath(func(p cmp.Path) bool {
			field, ok := p.Last().(cmp.StructField)
			if !ok {
				return false
			}
			switch field.Name() {
			case "Tag", "Index", "Age", "UseAge", "Use":
				return true
			}
			return false
		}, cmp.Ignore()),
	}
}
