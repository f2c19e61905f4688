package conf

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"net/netip"

	"sasyncd/sync/sadb"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// printed is what both kinds of configuration can do.
type printed interface{ text(reveal bool) string }

// parseAny parses a file by the beginning of its name, with every keyword
// allowed if all is set.
func parseAny(name string, src []byte, all bool) (printed, []Error, error) {
	if strings.HasPrefix(name, "carpd") {
		p := newParser(name, src, true, carpdKeywords)
		p.all = all
		c, err := parseCarpd(p, name)
		if err != nil {
			return nil, nil, err
		}
		return c, c.Warnings, nil
	}
	p := newParser(name, src, false, sasyncdKeywords)
	p.all = all
	c, err := parseSasyncd(p, name)
	if err != nil {
		return nil, nil, err
	}
	return c, c.Warnings, nil
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); -update rewrites it:\n%s", path, diff)
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", dir, "*.conf"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in testdata/%s: %v", dir, err)
	}
	return paths
}

// same compares configurations without positions.
func same(a, b printed) string {
	return cmp.Diff(a, b,
		cmpopts.IgnoreTypes(Pos{}, []Error{}),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b sadb.Secret) bool { return a.Equal(b) }),
		cmpopts.IgnoreUnexported(Sasyncd{}, Carpd{}))
}

func TestGood(t *testing.T) {
	for _, dir := range []string{"good", "full"} {
		for _, path := range files(t, dir) {
			t.Run(filepath.Base(path), func(t *testing.T) {
				src, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				name := filepath.Base(path)
				c, warnings, err := parseAny(name, src, dir == "full")
				if err != nil {
					t.Fatal(err)
				}
				got := c.text(false)
				for _, w := range warnings {
					got += "# warning: " + w.Error() + "\n"
				}
				golden(t, strings.TrimSuffix(path, ".conf")+".golden", got)
				again, _, err := parseAny(name, []byte(c.text(true)), dir == "full")
				if err != nil {
					t.Fatalf("the printed form is refused: %v\n%s", err, c.text(true))
				}
				if diff := same(c, again); diff != "" {
					t.Errorf("printing and parsing changes the configuration (-before +after):\n%s", diff)
				}
			})
		}
	}
}

func TestBad(t *testing.T) {
	for _, path := range files(t, "bad") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = parseAny(filepath.Base(path), src, strings.Contains(string(src), "every keyword allowed"))
			if err == nil {
				t.Fatal("accepted")
			}
			if !IsConfig(err) {
				t.Errorf("error is %T, want Errors", err)
			}
			golden(t, strings.TrimSuffix(path, ".conf")+".golden", err.Error()+"\n")
		})
	}
}
