package trusted_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/trusted"
	"sasyncd/kernel/trusted/trustedtest"
)

func TestMain(m *testing.M) { os.Exit(trustedtest.Main(m)) }

// other is a user who is neither root nor the one who runs the tests.
const other = 990

// place is a directory with files of given owners and modes.
type place struct {
	t    *testing.T
	base string
}

func newPlace(t *testing.T) place {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("files of others can be made by root only")
	}
	return place{t, t.TempDir()}
}

// path does not shorten the name.
func (p place) path(name string) string { return p.base + "/" + name }

func (p place) own(name string, uid int, mode os.FileMode) string {
	p.t.Helper()
	path := p.path(name)
	if err := errors.Join(os.Chown(path, uid, 0), os.Chmod(path, mode)); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p place) dir(name string, uid int, mode os.FileMode) string {
	p.t.Helper()
	if err := os.Mkdir(p.path(name), 0o755); err != nil {
		p.t.Fatal(err)
	}
	return p.own(name, uid, mode)
}

func (p place) file(name, text string, uid int, mode os.FileMode) string {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return p.own(name, uid, mode)
}

func (p place) link(name, target string) string {
	p.t.Helper()
	if err := os.Symlink(target, p.path(name)); err != nil {
		p.t.Fatal(err)
	}
	return p.path(name)
}

// TestOpen: what a path leads through decides, and the refusal says which
// component it is, whose, and what to do.
func TestOpen(t *testing.T) {
	p := newPlace(t)
	p.dir("root", 0, 0o755)
	p.dir("theirs", other, 0o755)
	p.dir("group", 0, 0o775)
	p.dir("sticky", 0, 0o777|os.ModeSticky)
	p.dir("theirs/below", 0, 0o755)
	good := p.file("root/good", "x", 0, 0o600)
	for _, d := range []string{"theirs", "group", "sticky", "theirs/below"} {
		p.file(d+"/f", "x", 0, 0o600)
	}
	fifo := p.path("root/fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, want, remedy string }{
		{"root's", good, "", ""},
		{"a link of root's", p.link("root/link", "good"), "", ""},
		{"a link of root's to a path", p.link("root/abs", good), "", ""},
		{"by way of ..", p.path("root/../root/./good"), "", ""},
		{"directory of another user", p.path("theirs/f"), p.path("theirs") +
			": the directory belongs to user 990 and has mode 0755", "chown root " + p.path("theirs")},
		{"root's directory in that", p.path("theirs/below/f"), p.path("theirs") + ": the directory", "chown root"},
		{"directory of a group", p.path("group/f"), p.path("group") +
			": the directory belongs to root and has mode 0775", "chmod go-w " + p.path("group")},
		{"sticky directory", p.path("sticky/f"), p.path("sticky") + ": the directory belongs to root and has mode 1777",
			"move the file"},
		{"a link out of that", p.link("sticky/out", good), p.path("sticky"), "move the file"},
		{"a link into that", p.link("root/in", "../sticky/f"), p.path("sticky"), "move the file"},
		{"there and back", p.path("sticky/../root/good"), p.path("sticky"), "move the file"},
		{"file of another user", p.file("root/foreign", "x", other, 0o600), "it belongs to user 990 and has mode 0600",
			"chown root"},
		{"file that a group writes", p.file("root/shared", "x", 0, 0o660), "it belongs to root and has mode 0660",
			"chmod go-w"},
		{"fifo", fifo, "it is not a regular file", "name a regular file"},
		{"device", p.link("root/null", "/dev/null"), "it is not a regular file", "name a regular file"},
		{"directory", p.path("root"), "it is not a regular file", "name a regular file"},
		{"links in a circle", p.link("root/circle", "circle"), "too many levels of symbolic links", ""},
		{"below a file", good + "/x", "not a directory", ""},
		{"nothing", p.path("root/none"), "no such file or directory", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := trusted.Rule{}.Open(tt.path)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if b, err := io.ReadAll(f); err != nil || string(b) != "x" {
					t.Errorf("read %q, %v", b, err)
				}
				return
			}
			if err == nil {
				t.Fatal("it is opened")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.remedy) {
				t.Errorf("%v\nwant %q and %q", err, tt.want, tt.remedy)
			}
		})
	}
	if _, err := (trusted.Rule{}).Open(p.path("root/none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what does not exist: %v", err)
	}
}

// TestOwners: a user who is named may own directories, files, or both.
func TestOwners(t *testing.T) {
	p := newPlace(t)
	p.dir("root", 0, 0o755)
	p.dir("theirs", other, 0o755)
	p.file("root/f", "x", other, 0o600)
	p.file("theirs/f", "x", other, 0o600)
	for name, tt := range map[string]struct {
		rule   trusted.Rule
		file   string
		opened bool
	}{
		"theirs":                         {trusted.For(other), "theirs/f", true},
		"their file in root's directory": {trusted.For(other), "root/f", true},
		"only files":                     {trusted.Rule{Files: []int{other}}, "root/f", true},
		"only files, in their directory": {trusted.Rule{Files: []int{other}}, "theirs/f", false},
		"of somebody else":               {trusted.For(other + 1), "theirs/f", false},
		"for root":                       {trusted.For(0), "theirs/f", false},
	} {
		f, err := tt.rule.Open(p.path(tt.file))
		if (err == nil) != tt.opened {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			f.Close()
		}
	}
}

const say = "#!/bin/sh\necho \"$0 $1\"\n"

// TestProgramRuns: a native program and a script run by their descriptors, with
// their arguments, and a script finds the files beside it.
func TestProgramRuns(t *testing.T) {
	p := newPlace(t)
	script := p.file("say.sh", "#!/bin/sh\n. \"$(dirname \"$0\")/beside\"\necho \"$(basename \"$0\") $beside $1\"\n", 0,
		0o755)
	p.file("beside", "beside=found\n", 0, 0o644)
	for _, tt := range []struct{ path, arg, want string }{
		{script, "it", "say.sh found it\n"},
		{"/bin/echo", "it", "it\n"},
	} {
		prog, err := trusted.Rule{}.Program(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		out, err := prog.Command(t.Context(), tt.arg).CombinedOutput()
		if err != nil || string(out) != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.path, out, err, tt.want)
		}
		prog.Close()
	}
	if _, err := (trusted.Rule{}).Program(p.file("plain", "x", 0, 0o644)); err == nil || !strings.Contains(err.Error(),
		"chmod 755") {
		t.Errorf("a file that is no program: %v", err)
	}
}

// TestProgramStaysTheSame: what was judged is what runs, whatever stands in its
// place by then, and wherever its directory is by then.
func TestProgramStaysTheSame(t *testing.T) {
	p := newPlace(t)
	p.dir("bin", 0, 0o755)
	native := p.path("bin/native")
	text, err := os.ReadFile("/bin/echo")
	if err != nil {
		t.Fatal(err)
	}
	p.file("bin/native", string(text), 0, 0o755)
	script := p.file("bin/script", say, 0, 0o755)
	one, err := trusted.Rule{}.Program(native)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	two, err := trusted.Rule{}.Program(script)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	if err := os.Rename(p.path("bin"), p.path("old")); err != nil {
		t.Fatal(err)
	}
	p.dir("bin", other, 0o755)
	for _, name := range []string{"bin/native", "bin/script"} {
		p.file(name, "#!/bin/sh\necho foreign\n", other, 0o755)
	}
	for name, prog := range map[string]*trusted.Program{"native": one, "script": two} {
		out, err := prog.Command(t.Context(), "judged").CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), "judged\n") {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}

// swaps changes what stands at a path as fast as it can until the test ends.
func swaps(t *testing.T, path string, to ...string) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			next := path + ".next"
			os.Remove(next)
			if os.Symlink(to[i%len(to)], next) == nil {
				_ = unix.Rename(next, path)
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
}

// raceTime is how long a race is tried.
const raceTime = 2 * time.Second

// TestSwappedDirectoryGivesNothingAway: a link that changes between a directory of
// root's and one of somebody else's, as fast as it can, leads to root's file or to
// a refusal, whether the file is read or run. The link is root's, as otherwise its
// directory would be refused at once.
func TestSwappedDirectoryGivesNothingAway(t *testing.T) {
	p := newPlace(t)
	for dir, uid := range map[string]int{"root": 0, "theirs": other} {
		p.dir(dir, 0, 0o755)
		p.file(dir+"/f", "of "+dir, 0, 0o600)
		p.file(dir+"/prog", "#!/bin/sh\necho of "+dir+"\n", 0, 0o755)
		p.own(dir, uid, 0o755)
	}
	swaps(t, p.path("link"), "root", "theirs")
	read, ran, refused := 0, 0, 0
	count := func(got string, err error, n *int) {
		t.Helper()
		var e *trusted.Error
		switch {
		case err == nil && strings.TrimSpace(got) == "of root":
			*n++
		case errors.As(err, &e):
			refused++
		case errors.Is(err, fs.ErrNotExist): // before the first swap
		default:
			t.Fatalf("got %q, %v", got, err)
		}
	}
	for end := time.Now().Add(raceTime); time.Now().Before(end); {
		f, err := trusted.Rule{}.Open(p.path("link/f"))
		var b []byte
		if err == nil {
			b, err = io.ReadAll(f)
			f.Close()
		}
		count(string(b), err, &read)
		prog, err := trusted.Rule{}.Program(p.path("link/prog"))
		b = nil
		if err == nil {
			b, err = prog.Command(t.Context()).Output()
			prog.Close()
		}
		count(string(b), err, &ran)
	}
	if read == 0 || ran == 0 || refused == 0 {
		t.Errorf("read %d times, ran %d times, refused %d times: there was no race", read, ran, refused)
	}
}

// TestSwappedFileIsJudgedByItsDescriptor: a name that changes between a program of
// root's and one of somebody else's runs root's or nothing.
func TestSwappedFileIsJudgedByItsDescriptor(t *testing.T) {
	p := newPlace(t)
	for src, name := range map[string]string{"/bin/true": "good", "/bin/false": "bad"} {
		b, err := os.ReadFile(src)
		if err != nil {
			t.Fatal(err)
		}
		p.file(name, string(b), map[string]int{"good": 0, "bad": other}[name], 0o755)
	}
	swaps(t, p.path("prog"), "good", "bad")
	ran, refused := 0, 0
	for end := time.Now().Add(raceTime); time.Now().Before(end); {
		prog, err := trusted.Rule{}.Program(p.path("prog"))
		if err != nil {
			refused++
			continue
		}
		err = prog.Command(t.Context()).Run()
		prog.Close()
		if _, foreign := errors.AsType[*exec.ExitError](err); foreign {
			t.Fatal("the program of another user ran")
		}
		if err != nil {
			t.Fatal(err)
		}
		ran++
	}
	if ran == 0 || refused == 0 {
		t.Errorf("ran %d times, refused %d times: there was no race", ran, refused)
	}
}

// TestDir: the deepest directory that exists, and what is missing below it.
func TestDir(t *testing.T) {
	p := newPlace(t)
	p.dir("a", 0, 0o755)
	p.dir("theirs", other, 0o755)
	p.link("link", "a")
	for path, want := range map[string]string{"a": "", "link": "", "link/b/c": "b/c", "a/./b/": "b"} {
		f, real, missing, err := trusted.Rule{}.Dir(p.path(path))
		if err != nil || real != p.path("a") || strings.Join(missing, "/") != want {
			t.Errorf("%s: %s, %q, %v", path, real, missing, err)
			continue
		}
		f.Close()
	}
	for _, path := range []string{"theirs", "theirs/new", "a/new/.."} {
		if _, _, _, err := (trusted.Rule{}).Dir(p.path(path)); err == nil {
			t.Errorf("%s is opened", path)
		}
	}
}
