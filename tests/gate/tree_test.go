package gate

import (
	"maps"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const recipes = `a: deps
	go test ./tests/a ./tests/b/native
	more of it

fuzz:
	./tests/fuzz.sh

all:
	$(MAKE) a
`

// sample is a tree with a file in each kind of area.
func sample() fstest.MapFS {
	list := fstest.MapFS{"Makefile": {Data: []byte(recipes)}}
	for _, path := range []string{"go.mod", "README.md", "docs/a.md", "cmd/x/main.go", "cmd/x/main_test.go",
		"kernel/testdata/dump", "tests/a/a_test.go", "tests/b/native/b.go", "tests/c/c.go", "tests/harness/h.go",
		"tests/gate/data.go", "tests/fuzz.sh"} {
		list[path] = &fstest.MapFile{Data: []byte(path)}
	}
	return list
}

func tree(t *testing.T, files fstest.MapFS) *Tree {
	t.Helper()
	r, err := ReadTree(files)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A result is older than a change of what its gate runs, and of nothing else.
func TestChanged(t *testing.T) {
	for _, c := range []struct {
		path string // is changed
		want map[string][]string
	}{
		{"README.md", nil},
		{"docs/a.md", nil},
		{"tests/gate/data.go", nil},
		{"Makefile", nil},
		{"cmd/x/main.go", map[string][]string{"a": {"cmd"}, "fuzz": {"cmd"}, "all": {"cmd"}}},
		{"cmd/x/main_test.go", map[string][]string{"fuzz": {"unit tests"}, "all": {"unit tests"}}},
		{"kernel/testdata/dump", map[string][]string{"fuzz": {"unit tests"}, "all": {"unit tests"}}},
		{"go.mod", map[string][]string{"a": {"go.mod"}, "fuzz": {"go.mod"}, "all": {"go.mod"}}},
		{"tests/harness/h.go", map[string][]string{"a": {"tests/harness"}, "fuzz": {"tests/harness"},
			"all": {"tests/harness"}}},
		{"tests/a/a_test.go", map[string][]string{"a": {"tests/a"}, "all": {"tests/a"}}},
		{"tests/b/native/b.go", map[string][]string{"a": {"tests/b"}, "all": {"tests/b"}}},
		{"tests/c/c.go", map[string][]string{"all": {"tests/c"}}},
		{"tests/fuzz.sh", map[string][]string{"fuzz": {"tests/fuzz.sh"}, "all": {"tests/fuzz.sh"}}},
	} {
		runs := map[string]*Run{}
		for _, gate := range []string{"a", "fuzz", "all"} {
			runs[gate] = &Run{Gate: gate, Areas: tree(t, sample()).Of(gate)}
		}
		for what, content := range map[string]*fstest.MapFile{"changed": {Data: []byte("other")}, "removed": nil} {
			files := sample()
			files[c.path] = content
			if content == nil {
				delete(files, c.path)
			}
			if c.path == "Makefile" {
				files[c.path] = &fstest.MapFile{Data: []byte(recipes + "# more\n")}
			}
			have := map[string][]string{}
			for gate, r := range runs {
				areas, known := tree(t, files).Changed(r)
				if !known {
					t.Fatal("the areas of a run are not known")
				}
				if areas != nil {
					have[gate] = areas
				}
			}
			if !maps.EqualFunc(c.want, have, slices.Equal) {
				t.Errorf("%s is %s: %s", c.path, what, cmp.Diff(c.want, have))
			}
		}
	}
	files := sample()
	files["sync/new.go"] = &fstest.MapFile{}
	run := &Run{Gate: "a", Areas: tree(t, sample()).Of("a")}
	if areas, _ := tree(t, files).Changed(run); !slices.Equal(areas, []string{"sync"}) {
		t.Errorf("a new folder of the product: %v", areas)
	}
	if _, known := tree(t, files).Changed(new(Run)); known {
		t.Error("a run without areas is taken for one of this tree")
	}
}

// What git tells of a commit is what a checkout of it has.
func TestParseFiles(t *testing.T) {
	list, err := ParseFiles("100644 blob 257cc5642cb1a054f08cc83f2d943e56fd3ebe99\tcarp/a b.go\x00" +
		"120000 blob 1\tcarp/link\x00100755 blob e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\tcarp/empty\x00")
	if err != nil {
		t.Fatal(err)
	}
	want := []File{{"carp/a b.go", blob([]byte("foo\n"))}, {"carp/empty", blob(nil)}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	if _, err := ParseFiles("nonsense"); err == nil {
		t.Error("nonsense was taken for a file")
	}
}
