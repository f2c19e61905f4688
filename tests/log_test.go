package tests_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logCalls are the methods that log, and at which argument their fields begin.
// Fields come as name and value, so names are every other argument.
var logCalls = map[string]int{"Info": 1, "Warn": 1, "Error": 1, "Debug": 1, "With": 0, "Log": 3, "say": 2}

// TestLogFieldsHaveOneName: who searches logs must know how a thing is called,
// so what is logged in more than one place has a name in the table of
// docs/operations.md, and what is there is logged.
func TestLogFieldsHaveOneName(t *testing.T) {
	b, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(b), "| field | meaning |\n|---|---|\n")
	if !ok {
		t.Fatal("docs/operations.md has no table of fields")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	documented := map[string]bool{}
	for line := range strings.Lines(table) {
		for name := range strings.SplitSeq(strings.Trim(strings.Split(line, "|")[1], " "), ", ") {
			documented[strings.Trim(name, "`")] = true
		}
	}
	places := map[string][]string{}
	for _, p := range listPackages(t) {
		if strings.HasPrefix(p.rel(), "tests") || strings.HasSuffix(p.rel(), "test") {
			continue
		}
		for _, file := range p.GoFiles {
			ast.Inspect(parse(t, filepath.Join(p.Dir, file)), func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "http" {
					return true
				}
				first, ok := logCalls[sel.Sel.Name]
				for i := first; ok && i < len(call.Args); i += 2 {
					if lit, ok := call.Args[i].(*ast.BasicLit); ok {
						if name, err := strconv.Unquote(lit.Value); err == nil && i+1 < len(call.Args) {
							places[name] = append(places[name], p.rel()+"/"+file)
						}
					}
				}
				return true
			})
		}
	}
	for name, where := range places {
		if slices.Sort(where); len(slices.Compact(where)) > 1 && !documented[name] {
			t.Errorf("field %q is logged in %v and is not in the table of docs/operations.md", name,
				slices.Compact(where))
		}
		if slices.Contains([]string{"error", "spi_hex", "grp", "iface", "duration"}, name) {
			t.Errorf("field %q in %v has another name elsewhere", name, where)
		}
	}
	for name := range documented {
		if len(places[name]) == 0 {
			t.Errorf("docs/operations.md explains the field %q, which is never logged", name)
		}
	}
}
