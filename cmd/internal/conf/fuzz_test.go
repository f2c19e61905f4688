package conf

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// seed adds every file of testdata whose name begins with kind.
func seed(f *testing.F, kind string) {
	paths, err := filepath.Glob("testdata/*/" + kind + "-*.conf")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, p := range paths {
		src, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
}

// property is what holds for any input: no panic, errors in order and inside
// the file, and printing and parsing an accepted file changes nothing.
func property(t *testing.T, name string, src []byte) {
	c, _, err := parseAny(name, src, true)
	if err != nil {
		var es Errors
		if !errors.As(err, &es) || len(es) == 0 {
			t.Fatalf("error is %T", err)
		}
		if !slices.IsSortedFunc(es, func(a, b Error) int { return a.Pos.compare(b.Pos) }) {
			t.Errorf("errors are not sorted:\n%v", err)
		}
		for _, e := range es {
			if e.Pos.Line < 1 || e.Pos.Col < 1 || e.Problem == "" || e.Remedy == "" {
				t.Errorf("error %+v is not complete", e)
			}
		}
		return
	}
	text := c.text(true)
	again, _, err := parseAny(name, []byte(text), true)
	if err != nil {
		t.Fatalf("the printed form is refused: %v\n%s", err, text)
	}
	if diff := same(c, again); diff != "" {
		t.Errorf("printing and parsing changes the configuration (-before +after):\n%s\n%s", diff, text)
	}
	if again.text(true) != text {
		t.Errorf("the printed form is not stable:\n%s\nthen\n%s", text, again.text(true))
	}
}

func FuzzSasyncd(f *testing.F) {
	seed(f, "sasyncd")
	f.Fuzz(func(t *testing.T, src []byte) { property(t, "sasyncd.conf", src) })
}

func FuzzCarpd(f *testing.F) {
	seed(f, "carpd")
	f.Fuzz(func(t *testing.T, src []byte) { property(t, "carpd.conf", src) })
}
