package shipped

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/keying/ipsecconf"
)

// macro returns the words that follow one of the macros in a man page, up to
// the next macro on the line.
func macro(page string, macros ...string) map[string]bool {
	out := map[string]bool{}
	known := regexp.MustCompile(`^(Ar|Cm|Ic|Fl|Op|Oo|Oc|Li|Ns|No|Pa|Xr|It|Nm|Sy|Dv|Sx)$`)
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, ".") {
			continue
		}
		on := false
		for w := range strings.FieldsSeq(line[1:]) {
			switch {
			case slices.Contains(macros, w):
				on = true
			case known.MatchString(w):
				on = false
			case on && strings.ContainsAny(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"):
				out[strings.Trim(w, ",.;")] = true
			}
		}
	}
	return out
}

// TestManKeywords compares the keywords that have an effect with those that are
// documented, in both directions.
func TestManKeywords(t *testing.T) {
	for _, tt := range []struct {
		page  string
		table []conf.Keyword
		// words that are neither keywords nor values in the table: further words
		// of a statement, values that every version has, and names of other pages
		more string
	}{
		{"sasyncd.conf.5", conf.SasyncdKeywords(), "on port inet inet6 file -n sasyncd config"},
		{"carpd.conf.5", conf.CarpdKeywords(), "listen on port config after never yes no sasyncd fence interface file " +
			"openbsd freebsd receive-only permissive enforce demote timeout fail multiplier source"},
	} {
		documented := macro(read(t, "man", tt.page), "Ic", "Cm")
		allowed := map[string]bool{}
		for w := range strings.FieldsSeq(tt.more) {
			allowed[w] = true
		}
		for _, k := range tt.table {
			words := strings.Fields(k.Path)
			last := words[len(words)-1]
			if k.Supported && !documented[last] {
				t.Errorf("%s lacks %q", tt.page, k.Path)
			}
			allowed[last] = allowed[last] || k.Supported
		}
		for _, w := range slices.Sorted(maps.Keys(documented)) {
			if !allowed[w] {
				t.Errorf("%s documents %q, which has no effect", tt.page, w)
			}
		}
	}
}

// TestManExamples parses the examples of the man pages.
func TestManExamples(t *testing.T) {
	block := regexp.MustCompile(`(?s)\.Sh EXAMPLES\n.*?\.Bd -literal[^\n]*\n(.*?)\.Ed`)
	for page, parse := range map[string]func(string) error{
		"sasyncd.conf.5": func(s string) error { _, err := conf.ParseSasyncd("example", []byte(s)); return err },
		"sasyncd-static.5": func(s string) error {
			files := map[string]string{"example": strings.ReplaceAll(s, "\\e\n", "\\\n")}
			for _, name := range []string{"auth.out", "auth.in", "enc.out", "enc.in"} {
				files["/etc/sasyncd/"+name] = strings.Repeat("5a", 32) + "\n"
			}
			_, err := ipsecconf.Load("example", func(path string) ([]byte, error) { return []byte(files[path]), nil })
			return err
		},
		"carpd.conf.5": func(s string) error { _, err := conf.ParseCarpd("example", []byte(s)); return err },
	} {
		m := block.FindStringSubmatch(read(t, "man", page))
		if m == nil {
			t.Fatalf("%s has no example", page)
		}
		if err := parse(m[1]); err != nil {
			t.Errorf("%s: %v", page, err)
		}
	}
}

// letters returns the flags of a usage message or synopsis.
func letters(s string) string {
	seen := map[rune]bool{}
	for _, m := range regexp.MustCompile(`-([a-zA-Z]+)`).FindAllStringSubmatch(s, -1) {
		for _, r := range m[1] {
			seen[r] = true
		}
	}
	return string(slices.Sorted(maps.Keys(seen)))
}

// flags returns the flags that a man page has in its synopsis and in its list.
func flags(page string) (synopsis, list string) {
	head, body, _ := strings.Cut(page, ".Sh DESCRIPTION")
	_, head, _ = strings.Cut(head, ".Sh SYNOPSIS")
	of := func(s string) string {
		var b strings.Builder
		for _, m := range regexp.MustCompile(`(?m)^\.(?:Op|It) Fl (\w+)`).FindAllStringSubmatch(s, -1) {
			b.WriteString("-" + m[1] + " ")
		}
		return letters(b.String())
	}
	return of(head), of(body)
}

// TestManPrograms checks that each program has a man page, with the flags and
// the commands that it has.
func TestManPrograms(t *testing.T) {
	dirs, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		name := d.Name()
		if !d.IsDir() || name == "internal" {
			continue
		}
		page := read(t, "man", name+".8")
		if strings.HasSuffix(name, "ctl") {
			if want, got := commands(t, name), documented(page); !slices.Equal(want, got) {
				t.Errorf("%s has the commands %q, its man page %q", name, want, got)
			}
		}
		want := letters(usage(t, name))
		if synopsis, list := flags(page); synopsis != want || list != want {
			t.Errorf("%s has the flags %s, its man page %s in the synopsis and %s in the list", name, want, synopsis,
				list)
		}
	}
}

// usage returns what a program prints with -h, its commands aside.
func usage(t *testing.T, program string) string {
	t.Helper()
	if strings.HasSuffix(program, "ctl") {
		f, err := daemon.CtlFlags(program, "", []string{"-h"}, io.Discard, "")
		if err != nil || !f.WantsHelp() {
			t.Fatalf("%s -h: %v", program, err)
		}
		return f.Usage
	}
	f, err := daemon.DaemonFlags(program, "", []string{"-h"}, io.Discard)
	if err != nil || !f.Help {
		t.Fatalf("%s -h: %v", program, err)
	}
	return f.Usage
}

// commands reads the verbs from the constant usage of a control program.
func commands(t *testing.T, program string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../..", program, "main.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || v.Names[0].Name != "usage" {
			return true
		}
		text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			out = append(out, strings.Fields(line)[0])
		}
		return false
	})
	if len(out) == 0 {
		t.Fatalf("%s has no constant usage in main.go", program)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// documented returns the commands of a control program's man page.
func documented(page string) []string {
	_, list, _ := strings.Cut(page, "The commands are as follows:")
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^\.It Ic (\w+)`).FindAllStringSubmatch(list, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestManLint runs mandoc over the man pages, in a directory where it finds
// those that they refer to: each other, and stubs for those of other packages.
func TestManLint(t *testing.T) {
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Fatal("mandoc is needed to check the man pages: apt-get install mandoc")
	}
	pages, err := filepath.Glob(filepath.Join(deploy, "man", "*.[58]"))
	if err != nil || len(pages) != 7 {
		t.Fatalf("man pages: %v, error %v", pages, err)
	}
	dir := t.TempDir()
	// Pages of others that ours refer to. Whether this machine has them is no matter.
	files := map[string]string{}
	for _, name := range []string{
		"diff.1", "keepalived.8", "landlock.7", "nft.8", "systemd.1", "systemd-journald.8", "ucarp.8",
	} {
		files[name] = ""
	}
	args := []string{"-T", "lint"}
	for _, p := range pages {
		name := filepath.Base(p)
		files[name] = read(t, "man", name)
		args = append(args, name)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(mandoc, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MANPATH="+dir)
	out, err := cmd.CombinedOutput()
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(string(out))), func(l string) bool {
		return strings.Contains(l, "outdated mandoc.db") // of this machine, about other packages
	})
	if err != nil || len(lines) > 0 {
		t.Errorf("mandoc complains (%v):\n%s", err, strings.Join(lines, ""))
	}
}
