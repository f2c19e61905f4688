package ipsecconf

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sasyncd/sync/sadb"
)

var update = flag.Bool("update", false, "write golden files anew")

// files reads testdata as if its files had the paths that examples name.
func files(main string, src []byte) Read {
	return func(path string) ([]byte, error) {
		switch path {
		case main:
			return src, nil
		case "/keys/out", "/keys/in", "/etc/more.conf":
			return os.ReadFile(filepath.Join("testdata/keys", filepath.Base(path)))
		}
		return nil, fs.ErrNotExist
	}
}

func golden(t *testing.T, conf, got string) {
	t.Helper()
	name := strings.TrimSuffix(conf, ".conf") + ".golden"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", conf, d)
	}
}

// describe tells all that decides about packets, with keys in the clear: they
// are of tests.
func describe(s Set) string {
	var b strings.Builder
	for _, e := range s.SAs {
		a := e.SA
		fmt.Fprintf(&b, "%d:%d %s src %s mode %d reqid 0x%x flags %d family %d", e.Pos.Line, e.Pos.Col, a.Key, a.Src,
			a.Mode, a.Reqid, a.Flags, a.Selector.Family)
		for _, alg := range []*sadb.Algorithm{a.Auth, a.Crypt, a.Comp} {
			if alg != nil {
				fmt.Fprintf(&b, "\n\t%s %d 0x%x", alg.Name, alg.TruncBits, alg.Key.Bytes())
			}
		}
		b.WriteByte('\n')
	}
	for _, f := range s.Flows {
		for _, p := range f.Policies {
			sel := p.Key.Selector
			fmt.Fprintf(&b, "%d:%d %s proto %d ports %d/%x %d/%x action %d priority %d", f.Pos.Line, f.Pos.Col, p.Key,
				sel.Proto,
				sel.SrcPort, sel.SrcPortMask, sel.DstPort, sel.DstPortMask, p.Action, p.Priority)
			for _, m := range p.Templates {
				fmt.Fprintf(&b, "\n\t%d %s -> %s mode %d reqid 0x%x optional %v", m.Proto, m.Src, m.Dst, m.Mode,
					m.Reqid, m.Optional)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestGood(t *testing.T) {
	for _, name := range list(t, "testdata/good/*.conf") {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Load(name, files(name, src))
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		golden(t, name, describe(r.Set))
		again(t, r.Set)
		for _, f := range r.Flows {
			for _, p := range f.Policies {
				if !p.Static() {
					t.Errorf("%s: %s does not bear the mark of static policies", name, p.Key)
				}
			}
		}
	}
}

// again checks that what is printed of a set is read as the same set.
func again(t *testing.T, s Set) {
	t.Helper()
	text := Print(s)
	r, err := Load("printed", files("printed", []byte(text)))
	if err != nil {
		t.Fatalf("what was printed is not read back: %v\n%s", err, text)
	}
	if d := cmp.Diff(items(s), items(r.Set)); d != "" {
		t.Errorf("what was printed is read as something else (-set +read):\n%s\n%s", d, text)
	}
	if Print(r.Set) != text {
		t.Errorf("a set is printed in two ways:\n%s\n%s", text, Print(r.Set))
	}
}

// items are the parts of a set without their places, which do not matter.
func items(s Set) map[string]string {
	out := make(map[string]string)
	for _, e := range s.SAs {
		e.Pos = Pos{}
		out[e.SA.Key.String()] = describe(Set{SAs: []SA{e}})
	}
	for _, f := range s.Flows {
		f.Pos = Pos{}
		text := describe(Set{Flows: []Flow{f}})
		out[text] = text
	}
	return out
}

func TestBad(t *testing.T) {
	for _, name := range list(t, "testdata/bad/*.conf") {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Load(name, files(name, src))
		if _, ok := errors.AsType[Errors](err); !ok {
			t.Errorf("%s is accepted: %v", name, err)
			continue
		}
		golden(t, name, strings.ReplaceAll(err.Error(), "testdata/bad/", "")+"\n")
	}
}

// TestEachBadLineIsBad holds every line of the bad files against the parser
// alone, so that none hides behind another.
func TestEachBadLineIsBad(t *testing.T) {
	for _, name := range []string{"testdata/bad/rules.conf"} {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.SplitAfter(string(src), "\n") {
			if line == "" {
				continue
			}
			if _, err := Load(name, files(name, []byte(line))); err == nil {
				t.Errorf("line %d is accepted: %s", i+1, line)
			}
		}
	}
}

func list(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return names
}

// TestNoKeyInErrors: whatever is wrong with a line that has keys, they are not repeated.
func TestNoKeyInErrors(t *testing.T) {
	const key = "c0ffee00c0ffee11c0ffee22c0ffee33"
	for _, line := range []string{
		"esp from 192.0.2.1 to 192.0.2.2 spi 0x" + key,
		"esp from 192.0.2.1 to 192.0.2.2 spi 0x1000 0x" + key,
		"esp from 192.0.2.1 to 192.0.2.2 spi 0x1000 auth 0x" + key,
		"esp from 192.0.2.1 to 192.0.2.2 spi 0x1000 enc " + key + " authkey 0x" + key,
		"esp from 192.0.2.1 to 192.0.2.2 spi 0x1000 authkey 0x" + key + " enckey 0x" + key + "zz",
		"esp from 192.0.2.1 to " + key + " spi 0x1000",
		"0x" + key,
		"authkey = " + "\n" + "$" + key,
		"authkey 0x" + key + ":0x" + key,
		"esp from 192.0.2.1 to 192.0.2.2 spi 0x1000 authkey file \"" + key + ":" + key + "\"",
	} {
		_, err := Load("conf", files("conf", []byte(line)))
		if err == nil {
			t.Errorf("accepted: %s", line)
		} else if strings.Contains(err.Error(), key[:12]) && !strings.HasPrefix(line, "authkey =") {
			t.Errorf("the message repeats a key: %v", err)
		}
	}
}

func TestFilesAreKnownEvenIfTheyCannotBeRead(t *testing.T) {
	src := []byte("include \"/a\"\nesp from 192.0.2.1 to 192.0.2.2 spi 0x1000 authkey file \"/b:/c\"\n")
	r, err := Load("/main", files("/main", src))
	if err == nil {
		t.Fatal("absent files are accepted")
	}
	if d := cmp.Diff([]string{"/main", "/a", "/b"}, r.Files); d != "" {
		t.Error(d)
	}
}

func TestIncludeOfItselfEnds(t *testing.T) {
	src := []byte("include \"/main\"\n")
	_, err := Load("/main", files("/main", src))
	if err == nil || !strings.Contains(err.Error(), "includes itself") {
		t.Fatalf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.conf", "testdata/bad/*.conf"} {
		names, _ := filepath.Glob(pattern)
		for _, n := range names {
			src, err := os.ReadFile(n)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
			for line := range bytes.SplitSeq(src, []byte("\n")) {
				f.Add(line)
			}
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		r, err := Load("/main", files("/main", src))
		if err != nil {
			var es Errors
			if !errors.As(err, &es) || len(es) == 0 {
				t.Fatalf("not an error of the file: %v", err)
			}
			return
		}
		again(t, r.Set)
	})
}
