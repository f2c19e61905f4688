package daemon

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
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
