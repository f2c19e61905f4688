package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// TestExplain: help goes to standard output with exit code 0, of the program or of one
// command; a word that is no command is an error that names the nearest.
func TestExplain(t *testing.T) {
	helps := Helps{"check": {[]string{"[-j] check", "check -w seconds"}, "\nSay yes.\n", "check -w 60"}}
	for line, want := range map[string]struct {
		code     int
		out, err string
	}{
		"help": {ExitOK, "usage: ctl [-hjvV] [-s socket] command ...\n  check", ""},
		"-h":   {ExitOK, "usage: ctl [-hjvV] [-s socket] command ...\n  check", ""},
		"help check": {ExitOK, "usage: ctl [-j] check\n       ctl check -w seconds\n\nSay yes.\n\nexample: ctl check " +
			"-w 60\n", ""},
		"check -h":   {ExitOK, "usage: ctl [-j] check\n", ""},
		"help chekc": {ExitUsage, "", "ctl: there is no command \"chekc\", did you mean check?\n"},
		"help xyz":   {ExitUsage, "", "ctl: there is no command \"xyz\"\n"},
	} {
		var out, errs bytes.Buffer
		f, err := CtlFlags("ctl", "/run/s", strings.Fields(line), &errs, "  check")
		if err != nil || !f.WantsHelp() {
			t.Fatalf("%s: %v", line, err)
		}
		code := helps.Explain("ctl", f, &out, &errs)
		if code != want.code || !strings.HasPrefix(out.String(), want.out) || errs.String() != want.err ||
			want.out == "" && out.Len() > 0 {
			t.Errorf("%s: code %d, %q, %q", line, code, &out, &errs)
		}
	}
	f, err := CtlFlags("ctl", "/run/s", []string{"check"}, new(bytes.Buffer), "")
	if err != nil || f.WantsHelp() {
		t.Errorf("a command is taken for a question: %v", err)
	}
}

// TestHint: where a daemon cannot be asked, what to do follows from why.
func TestHint(t *testing.T) {
	_, absent := DialControl(context.Background(), filepath.Join(t.TempDir(), "s"))
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"no socket": {absent, "is carpd running? systemctl start carpd; journalctl -u carpd says why it ended"},
		"no answer": {fmt.Errorf("%w: it has not answered", ErrUnreachable), "is carpd running? systemctl status carpd"},
		"no right":  {&net.OpError{Op: "dial", Err: fs.ErrPermission}, "run it as root"},
		"a refusal": {&CallError{CodeDenied, "reload is for root"}, ""},
		"of a file": {fmt.Errorf("find the program: %w", fs.ErrNotExist), ""},
		"any other": {errors.New("broken"), ""},
		"none":      {nil, ""},
	} {
		if got := Hint("carpd", tt.err); !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestChecked: what -n prints, and where.
func TestChecked(t *testing.T) {
	show := func(w io.Writer) error { _, err := io.WriteString(w, "x yes\n"); return err }
	warning, refused := []error{errors.New("odd")}, []error{errors.New("not run")}
	for name, tt := range map[string]struct {
		verbose           int
		warnings, refused []error
		code              int
		out, err          string
	}{
		"right":             {0, nil, nil, ExitOK, "/etc/x.conf: configuration OK\n", ""},
		"odd":               {0, warning, nil, ExitOK, "/etc/x.conf: configuration OK\n", "odd\n"},
		"refused":           {0, warning, refused, ExitConfig, "", "odd\nnot run\n"},
		"in normal form":    {1, warning, nil, ExitOK, "x yes\n", "odd\n"},
		"refused, and form": {1, nil, refused, ExitConfig, "x yes\n", "not run\n"},
	} {
		var out, errs bytes.Buffer
		code := Checked(Flags{Config: "/etc/x.conf", Verbose: tt.verbose}, tt.warnings, tt.refused, show, &out, &errs)
		if code != tt.code || out.String() != tt.out || errs.String() != tt.err {
			t.Errorf("%s: code %d, %q, %q", name, code, &out, &errs)
		}
	}
}
