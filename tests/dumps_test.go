package tests_test

import (
	"go/ast"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

const netlinkLibrary = "github.com/vishvananda/netlink"

// readings are the functions of the netlink library that read a whole table, or may:
// LinkByName does on a kernel that cannot find a link by its name.
var readings = regexp.MustCompile(`^(\w*List(Filtered|Execute|Iter|FilteredIter)?|LinkByName|LinkByAlias)$`)

// TestReadingsAreRepeated: a table that changes while it is read gives an answer that
// lacks entries, or none. Only what kernel/dump repeats is complete.
func TestReadingsAreRepeated(t *testing.T) {
	found := 0
	for _, p := range listPackages(t) {
		if within(p.rel(), "tests/...") {
			continue // of networks that the tests alone change
		}
		for _, file := range p.GoFiles {
			f := parse(t, filepath.Join(p.Dir, file))
			if !slices.Contains(importsOf(f), netlinkLibrary) {
				continue
			}
			var repeated []*ast.CallExpr
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				switch x, _ := sel.X.(*ast.Ident); {
				case x != nil && x.Name == "dump":
					repeated = append(repeated, call)
				case readings.MatchString(sel.Sel.Name):
					found++
					if !slices.ContainsFunc(repeated, func(r *ast.CallExpr) bool {
						return r.Pos() <= call.Pos() &&
							call.End() <= r.End()
					}) {
						t.Errorf("%s/%s calls %s without dump.List or dump.Retry: entries may be missing", p.rel(),
							file, sel.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if found == 0 {
		t.Error("no reading was found, which cannot be")
	}
}
