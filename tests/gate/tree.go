package gate

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// File is a file of a tree, with the name that git gives its content.
type File struct{ Path, Blob string }

// Tree is what a result depends on. Two trees with equal areas have run the same code.
type Tree struct {
	// Areas has a digest for each part of the tree: see area.
	Areas    map[string]string
	makefile string
}

const (
	unitTests = "unit tests" // area of the tests beside the product's code
	module    = "go.mod"     // area of go.mod and go.sum
)

// product are the folders of what users run. roots are all that has areas.
var (
	product = []string{"cmd", "carp", "sync", "keying", "kernel", "deploy"}
	roots   = append(slices.Clone(product), "tests", "go.mod", "go.sum")
)

// area returns the part of the tree that a file is of, or "" for a file that no result
// depends on: a page, for example.
func area(path string) string {
	top, rest, _ := strings.Cut(path, "/")
	switch {
	case path == "go.mod" || path == "go.sum":
		return module
	case top == "tests":
		name, _, _ := strings.Cut(rest, "/")
		return "tests/" + name
	case !slices.Contains(product, top):
		return ""
	case strings.HasSuffix(path, "_test.go"), strings.Contains(path, "/testdata/"):
		return unitTests
	}
	return top
}

// NewTree makes a tree of its files and its Makefile.
func NewTree(files []File, makefile string) *Tree {
	lines := map[string][]string{}
	for _, f := range files {
		if a := area(f.Path); a != "" {
			lines[a] = append(lines[a], f.Path+" "+f.Blob+"\n")
		}
	}
	t := &Tree{map[string]string{}, makefile}
	for a, list := range lines {
		slices.Sort(list)
		sum := sha256.Sum256([]byte(strings.Join(list, "")))
		t.Areas[a] = hex.EncodeToString(sum[:6])
	}
	return t
}

// ReadTree reads the tree of a checkout. Only regular files count.
func ReadTree(checkout fs.FS) (*Tree, error) {
	makefile, err := fs.ReadFile(checkout, "Makefile")
	if err != nil {
		return nil, err
	}
	var files []File
	for _, root := range roots {
		err := fs.WalkDir(checkout, root, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path == root {
				return nil
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			content, err := fs.ReadFile(checkout, path)
			files = append(files, File{path, blob(content)})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return NewTree(files, string(makefile)), nil
}

// blob is the name that git gives a content (gitformat-pack(5)).
func blob(content []byte) string {
	sum := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(content)), content...))
	return hex.EncodeToString(sum[:])
}

// ParseFiles reads what git ls-tree -r -z prints, without what is no regular file.
func ParseFiles(out string) ([]File, error) {
	var list []File
	for entry := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if entry == "" {
			continue
		}
		head, path, found := strings.Cut(entry, "\t")
		fields := strings.Fields(head)
		if !found || len(fields) != 3 {
			return nil, fmt.Errorf("git ls-tree says %q, which is no file", entry)
		}
		if strings.HasPrefix(fields[0], "100") {
			list = append(list, File{path, fields[2]})
		}
	}
	return list, nil
}

var folder = regexp.MustCompile(`\./(tests/[a-z.]+)`)

// Of returns the areas that a gate depends on: the product, what all drills share, and
// the folders that its recipe in the Makefile names. A recipe that names none runs all.
func (t *Tree) Of(gate string) map[string]string {
	_, gate, _ = onGround(gate)
	own := []string{"tests/harness", "tests/scenario", module}
	if gate == "fuzz" {
		own = append(own, unitTests)
	}
	var named []string
	for _, m := range folder.FindAllStringSubmatch(recipe(t.makefile, gate), -1) {
		named = append(named, m[1])
	}
	if suite, ok := strings.CutPrefix(gate, "suite-"); ok {
		named = append(named, "tests/"+suite)
	}
	own = append(own, named...)
	areas := maps.Clone(t.Areas)
	maps.DeleteFunc(areas, func(a, _ string) bool {
		return len(named) > 0 && !slices.Contains(product, a) && !slices.Contains(own, a)
	})
	// The gate itself and the page's data decide on nothing.
	delete(areas, "tests/gate")
	return areas
}

// recipe returns the lines of a target.
func recipe(makefile, target string) string {
	_, rest, found := strings.Cut("\n"+makefile, "\n"+target+":")
	if !found {
		return ""
	}
	var b strings.Builder
	_, rest, _ = strings.Cut(rest, "\n") // what it needs first
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "\t") {
			break
		}
		b.WriteString(line)
	}
	return b.String()
}

// Changed returns the areas in which a tree differs from that of the run, in order.
// It is false where the run has not kept them.
func (t *Tree) Changed(r *Run) (areas []string, known bool) {
	if r.Areas == nil {
		return nil, false
	}
	now := t.Of(r.Gate)
	for a, digest := range r.Areas {
		if now[a] != digest {
			areas = append(areas, a)
		}
	}
	for a := range now {
		if _, there := r.Areas[a]; !there {
			areas = append(areas, a)
		}
	}
	slices.Sort(areas)
	return areas, true
}
