package replica

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// allItems are the fields of which there may be 100,000.
var allItems = map[string]bool{"sas": true, "policies": true, "want": true, "wantPolicy": true, "have": true,
	"havePolicy": true, "moved": true, "held": true}

// unpaused are the functions that go over one without a pause, with the reason.
var unpaused = map[string]string{
	"Publisher.LookAgain": "one write for each, when the virtual addresses have changed",
	"Receiver.LookAgain":  "one write for each, when the virtual addresses have changed",
}

// TestLoopsOverAllItemsPause: a loop over all items counts each, so that the engine's turn
// ends after some of them. Touched are the few that events have changed.
func TestLoopsOverAllItemsPause(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	loops := 0
	left := make(map[string]bool)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil || receiver(fn) == "Touched" {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				loop, ok := n.(*ast.RangeStmt)
				if !ok || !overAll(loop.X) {
					return true
				}
				loops++
				name := receiver(fn) + "." + fn.Name.Name
				switch {
				case counts(loop.Body):
				case unpaused[name] != "":
					left[name] = true
				default:
					t.Errorf("%v: %s goes over all items without a pause", fset.Position(loop.Pos()), name)
				}
				return true
			})
		}
	}
	if loops < 30 {
		t.Errorf("%d loops found: this is not what is meant", loops)
	}
	for name := range unpaused {
		if !left[name] {
			t.Errorf("%s is excused and needs no excuse", name)
		}
	}
}

// receiver returns the type whose method a function is, "" for none.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	return strings.TrimPrefix(fmt.Sprint(exprName(fn.Recv.List[0].Type)), "*")
}

func exprName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return exprName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// overAll reports whether an expression is a field of all items of a publisher or a
// receiver. Those of a Touched are named t.
func overAll(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && allItems[s.Sel.Name] && exprName(s.X) != "t" && exprName(s.X) != "gone" && exprName(s.X) != "c"
}

// counts reports whether a loop counts its items.
func counts(body *ast.BlockStmt) (yes bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			switch f := call.Fun.(type) {
			case *ast.SelectorExpr:
				yes = yes || f.Sel.Name == "Item" || f.Sel.Name == "ItemAfter"
			case *ast.Ident:
				yes = yes || f.Name == "item" || f.Name == "covered" // which count
			}
		}
		return true
	})
	return yes
}
