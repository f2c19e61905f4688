package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// upper stands for the normal form: small letters become capitals, and a secret is "key".
func upper(_ string, src []byte) (text, shown, source []byte, err error) {
	if bytes.Contains(src, []byte("wrong")) {
		return nil, nil, nil, errors.New("f:1:1: wrong")
	}
	text = bytes.ReplaceAll(bytes.ToUpper(src), []byte("KEY"), []byte("key"))
	hide := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("key"), []byte("<3-bytes>")) }
	return text, hide(text), hide(src), nil
}

// TestFormatCommand: what fmt prints and writes, and with which exit code.
func TestFormatCommand(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.conf")
	link := filepath.Join(dir, "link.conf")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	const normal = "A key\nB\n"
	for name, tt := range map[string]struct {
		args, src, stdin string
		code             int
		out, err, after  string // err: the beginning
	}{
		"a file":                  {path, "a key\nb\n", "", ExitOK, "A <3-bytes>\nB\n", "", "a key\nb\n"},
		"the default file":        {"", "a key\nb\n", "", ExitOK, "A <3-bytes>\nB\n", "", "a key\nb\n"},
		"a filter":                {"-", "-", "a key\nb", ExitOK, "A key\nB", "", "-"},
		"written":                 {"-w " + path, "a key\nb\n", "", ExitOK, "", "", normal},
		"written, was so":         {"-w " + path, normal, "", ExitOK, "", "", normal},
		"difference":              {"-d", "a key\nB\n", "", ExitFailure, "@@ -1,2 +1,2 @@\n-a <3-bytes>\n+A <3-bytes>\n B\n", "", "a key\nB\n"},
		"no difference":           {"-d", normal, "", ExitOK, "", "", normal},
		"difference, and written": {"-dw", "A key\nb\n", "", ExitOK, "@@ -1,2 +1,2 @@\n A <3-bytes>\n-b\n+B\n", "", normal},
		"wrong":                   {"-w", "wrong", "", ExitConfig, "", "f:1:1: wrong\n", "wrong"},
		"a link":                  {"-w " + link, "a\n", "", ExitFailure, "", "carpd: write " + link, "a\n"},
		"no such file":            {path + "x", "a\n", "", ExitFailure, "", "carpd: open ", "a\n"},
		"two files":               {"a b", "a\n", "", ExitUsage, "", "carpd: name one file\nusage: ", "a\n"},
		"writes to nowhere":       {"-w -", "a\n", "", ExitUsage, "", "carpd: -w needs a file\nusage: ", "a\n"},
		"unknown flag":            {"-x", "a\n", "", ExitUsage, "", "carpd: unknown ", "a\n"},
	} {
		if err := os.WriteFile(path, []byte(tt.src), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code := Format("carpd", Flags{Config: path}, strings.Fields(tt.args), upper, strings.NewReader(tt.stdin), &out, &errs)
		if strings.HasPrefix(tt.out, "@@") {
			tt.out = "--- " + path + "\n+++ " + path + " (formatted)\n" + tt.out
		}
		if code != tt.code || out.String() != tt.out || !strings.HasPrefix(errs.String(), tt.err) ||
			tt.err == "" && errs.Len() > 0 {
			t.Errorf("%s: code %d, printed %q and %q", name, code, &out, &errs)
		}
		after, err := os.ReadFile(path)
		st, _ := os.Stat(path)
		if err != nil || string(after) != tt.after || st.Mode().Perm() != 0o640 {
			t.Errorf("%s: the file is %q, mode %v, error %v", name, after, st.Mode(), err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("files are left behind: %v, %v", left, err)
	}
}

// apply makes the new text of an old one and a difference, as patch(1) does, and fails
// where a hunk does not fit.
func apply(t *testing.T, before, diff string) string {
	t.Helper()
	old := slices.Collect(strings.Lines(before))
	var out []string
	at := 0
	for l := range strings.Lines(diff) {
		var first, n int
		switch {
		case strings.HasPrefix(l, "---"), strings.HasPrefix(l, "+++"):
		case strings.HasPrefix(l, "@@"):
			if c, _ := fmt.Sscanf(l, "@@ -%d,%d", &first, &n); c == 1 {
				n = 1
			}
			if n > 0 {
				first--
			}
			out = append(out, old[at:first]...)
			at = first
		case l[0] == '+':
			out = append(out, l[1:])
		default:
			if at >= len(old) || old[at] != l[1:] {
				t.Fatalf("line %d of the old text is not %q:\n%s", at+1, l[1:], diff)
			}
			if l[0] == ' ' {
				out = append(out, l[1:])
			}
			at++
		}
	}
	return strings.Join(append(out, old[at:]...), "")
}

// TestUnified makes the new text of the old one and the difference.
func TestUnified(t *testing.T) {
	lines := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			b.WriteString(string(r) + "\n")
		}
		return b.String()
	}
	for _, tt := range [][2]string{
		{"abc", "abc"}, {"", "ab"}, {"ab", ""}, {"abcdefghijklmnop", "abXdefghijklmnYp"}, {"abcdefghijkl", "Xabcdefghijkl"},
		{"abcdefghijkl", "abcdefghijklX"}, {"abcdefgh", "bXYgha"}, {"aaaa", "aa"}, {"abcdefghijklm", "aBcdefghijkLm"},
	} {
		before, after := lines(tt[0]), lines(tt[1])
		d := unified("f", before, after)
		if (d == "") != (before == after) || d != "" && apply(t, before, d) != after {
			t.Errorf("%v: difference\n%s", tt, d)
		}
	}
	want := "--- f\n+++ f (formatted)\n@@ -1,5 +1,6 @@\n a\n-b\n+X\n+Y\n c\n d\n e\n@@ -10,3 +11,4 @@\n j\n k\n l\n+m\n"
	if d := unified("f", lines("abcdefghijkl"), lines("aXYcdefghijklm")); d != want {
		t.Errorf("difference\n%s\nwant\n%s", d, want)
	}
}
