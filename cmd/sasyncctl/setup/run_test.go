package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"sasyncd/sync/sadb"
)

// fake is a gateway that only notes what it is asked to run.
type fake struct {
	side   Side
	ran    *[]string // of both
	stdin  map[string]string
	looks  string // what a look prints
	broken string // a part of the script that fails
}

// Run implements Runner.
func (f *fake) Run(_ context.Context, script string, stdin []byte, out io.Writer) error {
	if strings.HasPrefix(script, "say()") {
		fmt.Fprint(out, f.looks)
		return nil
	}
	*f.ran = append(*f.ran, fmt.Sprintf("%d %s", f.side, script))
	f.stdin[script] = string(stdin)
	if f.broken != "" && strings.Contains(script, f.broken) {
		fmt.Fprintln(out, "it is broken")
		return errors.New("exit status 1")
	}
	return nil
}

// pairOf returns a setup of two fakes that find nothing in the way.
func pairOf() (u *Setup, out *bytes.Buffer, ran *[]string, own, peer *fake) {
	out, ran = new(bytes.Buffer), new([]string)
	own = &fake{Own, ran, map[string]string{}, "init: end\n", ""}
	peer = &fake{Peer, ran, map[string]string{}, "init: end\n", ""}
	return &Setup{Input: usual(), Runners: [2]Runner{own, peer}, Dir: "/etc", Out: out}, out, ran, own, peer
}

// secretsOf returns what must not be shown, as it was written.
func secretsOf(t *testing.T, f *fake) (list []string) {
	t.Helper()
	for script, text := range f.stdin {
		if strings.Contains(script, keyName) {
			list = append(list, strings.TrimSpace(text))
		}
		if strings.Contains(script, carpdName) {
			_, rest, _ := strings.Cut(text, "pass \"")
			pass, _, _ := strings.Cut(rest, "\"")
			list = append(list, pass)
		}
	}
	if len(list) != 2 || len(list[0]) < 19 || len(list[1]) < 19 {
		t.Fatalf("%d secrets were written", len(list))
	}
	return list
}

// TestRun: all steps are done, each on its side, the files are shown, and no secret is.
func TestRun(t *testing.T) {
	u, out, ran, own, peer := pairOf()
	if err := u.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := New(u.Input, NewSecrets(), u.Dir, [2]Found{})
	if err != nil {
		t.Fatal(err)
	}
	if len(*ran) != len(p.Steps) {
		t.Fatalf("%d steps were done, want %d", len(*ran), len(p.Steps))
	}
	for i, s := range p.Steps {
		if want := fmt.Sprintf("%d %s", s.Side, s.Script); (*ran)[i] != want {
			t.Errorf("step %d is %q, want %q", i, (*ran)[i], want)
		}
	}
	for _, f := range []*fake{own, peer} {
		for _, s := range secretsOf(t, f) {
			if strings.Contains(out.String()+strings.Join(*ran, "\n"), s) {
				t.Error("a secret is shown")
			}
		}
	}
	for _, want := range []string{"== /etc/carpd.conf of this gateway\n", "== /etc/sasyncd.conf of root@10.9.0.2\n",
		"\tpass \"<19-bytes>\"\n", "\tadvskew 64\n", "\tadvskew 80\n", "peer 10.9.0.1\n", "a new key of 256 bits",
		"the pair is ready"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}

// TestRefusal: what is in the way on either side is said, and nothing is run.
func TestRefusal(t *testing.T) {
	for _, side := range []Side{Own, Peer} {
		u, _, ran, own, peer := pairOf()
		[]*fake{own, peer}[side].looks = "init: file /etc/sasyncd.conf 00\ninit: end\n"
		err := u.Run(t.Context())
		if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), u.Input.called(side)+
			": /etc/sasyncd.conf exists") || len(*ran) != 0 {
			t.Errorf("ran %q: %v", *ran, err)
		}
		// A dry run shows what it would do all the same, and does not say that all is well.
		var out bytes.Buffer
		u.DryRun, u.Out = true, &out
		if err := u.Run(t.Context()); !errors.Is(err, errRefused) || len(*ran) != 0 || !strings.Contains(out.String(),
			"what would be done:") {
			t.Errorf("dry: ran %q: %v\n%s", *ran, err, &out)
		}
	}
}

// TestDryRunAndPrint: a dry run runs nothing; with Print, the peer is left alone and the
// commands are printed in order.
func TestDryRunAndPrint(t *testing.T) {
	u, out, ran, _, peer := pairOf()
	u.DryRun = true
	if err := u.Run(t.Context()); err != nil || len(*ran) != 0 {
		t.Errorf("ran %q: %v", *ran, err)
	}
	for _, want := range []string{"root@10.9.0.2: write /etc/sasyncd.key\n", "systemctl enable --now carpd sasyncd",
		"sasyncctl check -w 60\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	out.Reset()
	u.DryRun, u.Print = false, true
	peer.looks = "it must not be asked"
	if err := u.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range *ran {
		if !strings.HasPrefix(r, "0 ") {
			t.Errorf("%s was run on the peer", r)
		}
	}
	_, list, _ := strings.Cut(out.String(), "what is left, in this order:\n")
	at := -1
	for _, want := range []string{"< /etc/sasyncd.key\n", "/etc/carpd.conf | ssh root@10.9.0.2 ",
		"/etc/sasyncd.conf | ssh root@10.9.0.2 ", "\"sh -c 'carpd -n'\"", "\n  systemctl daemon-reload",
		"ssh root@10.9.0.2 \"sh -c 'systemctl", "\n  sasyncctl check -w 60"} {
		i := strings.Index(list, want)
		if i <= at {
			t.Errorf("lacks %q, or at the wrong place:\n%s", want, list)
		}
		at = i
	}
}

// TestBroken: a failure in the middle says what was done, and how to go on.
func TestBroken(t *testing.T) {
	for name, tt := range map[string]struct {
		side   Side
		broken string
		want   []string
		not    string
	}{
		"first file here": {Own, "/etc/sasyncd.key", []string{"this gateway: write /etc/sasyncd.key: exit status 1\n",
			"run sasyncctl init again"}, "rm "},
		"last file here": {Own, "/etc/sasyncd.conf", []string{"what was done:\n  this gateway: write /etc/sasyncd.key\n",
			"remove what was written, rm /etc/sasyncd.key /etc/carpd.conf, and run sasyncctl init again"}, "ssh "},
		"check here": {Own, "carpd -n", []string{"beginning with the command that failed:\n  carpd -n\n  sasyncd -n\n  ssh ",
			"sasyncctl check -w 60"}, "remove what"},
		"copy": {Peer, "/etc/carpd.conf", []string{"root@10.9.0.2: write /etc/carpd.conf: exit status 1\n",
			"  root@10.9.0.2: write /etc/sasyncd.key\n", "that failed:\n  sed '", "sasyncctl check -w 60"}, "again"},
		"start": {Peer, "systemctl", []string{"  this gateway: start carpd and sasyncd\n",
			"that failed:\n  ssh root@10.9.0.2 \"sh -c 'systemctl"}, "sed"},
		"wait": {Own, "check -w", []string{"  root@10.9.0.2: start carpd and sasyncd\n",
			"that failed:\n  sasyncctl check -w 60"}, "systemctl"},
	} {
		t.Run(name, func(t *testing.T) {
			u, out, ran, own, peer := pairOf()
			[]*fake{own, peer}[tt.side].broken = tt.broken
			err := u.Run(t.Context())
			if err == nil || !strings.Contains(out.String(), "it is broken") {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("lacks %q:\n%v", w, err)
				}
			}
			if strings.Contains(err.Error(), tt.not) {
				t.Errorf("says %q:\n%v", tt.not, err)
			}
			if last := (*ran)[len(*ran)-1]; !strings.Contains(last, tt.broken) {
				t.Errorf("%q was run after the failure", last)
			}
		})
	}
}

// TestConfirm: a no changes nothing.
func TestConfirm(t *testing.T) {
	u, _, ran, _, _ := pairOf()
	u.Confirm = func(context.Context) error { return errRefused }
	if err := u.Run(t.Context()); !errors.Is(err, errRefused) || len(*ran) != 0 {
		t.Errorf("ran %q: %v", *ran, err)
	}
}

// TestWriteIsAllOrNothing: a file appears whole, with mode 0600, where there was none.
func TestWriteIsAllOrNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		before, input string
		want          string // of the file, "" for none
		ok            bool
	}{
		"whole":   {"", "all of it", "all of it", true},
		"cut":     {"", "all", "", false},
		"present": {"mine", "all of it", "mine", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := dir + "/f"
			if tt.before != "" {
				if err := os.WriteFile(path, []byte(tt.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f := File{Path: path, Content: sadb.NewSecret([]byte("all of it"))}
			var out bytes.Buffer
			err := local{dir}.Run(t.Context(), write(f), []byte(tt.input), &out)
			if (err == nil) != tt.ok {
				t.Errorf("%v: %s", err, &out)
			}
			got, _ := os.ReadFile(path)
			list, _ := os.ReadDir(dir)
			if string(got) != tt.want || len(list) > 1 || tt.want == "" && len(list) > 0 {
				t.Errorf("the file is %q beside %v", got, list)
			}
			if st, err := os.Stat(path); err == nil && st.Mode().Perm() != 0o600 {
				t.Errorf("its mode is %v", st.Mode())
			}
		})
	}
}
