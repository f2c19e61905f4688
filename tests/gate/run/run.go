package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/gate"
)

// Below the root, out of git's sight: the logs, and what the checkout gets at the
// end. The checkout is as the commit has it until then.
const (
	logs    = "dist/gate"
	pending = logs + "/pending"
)

// errFailed says that a gate failed or was not run; the table has told which.
var errFailed = errors.New("not passed")

// runner runs gates in a checkout.
type runner struct {
	dir  string
	list []gate.Gate
	out  io.Writer
	now  func() time.Time
}

func (r *runner) say(format string, args ...any) { fmt.Fprintf(r.out, "gate: "+format+"\n", args...) }

// path is where a file of the checkout is.
func (r *runner) path(name string) string { return filepath.Join(r.dir, name) }

// run runs the gates that are named, or all, and returns nil only when each has
// passed, now or, with goOn, before at this commit.
func (r *runner) run(ctx context.Context, names []string, goOn bool) error {
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	tree := checkout{r.dir}
	commit, err := tree.head()
	if err != nil {
		return err
	}
	results, err := r.results(tree)
	if err != nil {
		return err
	}
	plan, err := gate.Choose(r.list, names, results, commit, goOn)
	if err != nil {
		return err
	}
	if err := r.begin(tree, goOn, results); err != nil {
		return err
	}
	r.say("commit %.7s: %d to run, about %s; %d have passed before", commit, len(plan.Run), gate.Took(plan.Takes()),
		len(plan.Skipped))
	of, err := tree.tree(commit)
	if err != nil {
		return err
	}
	ran, err := r.all(ctx, tree, of, commit, plan, results)
	if end := r.finish(tree, results); end != nil {
		err = errors.Join(err, fmt.Errorf("%w; the results are in %s", end, r.path(pending)))
	}
	var rows []gate.Row
	for _, g := range plan.Skipped {
		rows = append(rows, gate.Row{Gate: g.Name, Run: results.Last(g.Name), Before: true})
	}
	for _, g := range plan.Run {
		row := gate.Row{Gate: g.Name}
		if slices.Contains(ran, g.Name) {
			row.Run = results.Last(g.Name)
		}
		rows = append(rows, row)
	}
	text, bad := gate.Table(rows)
	fmt.Fprintf(r.out, "\n%s\n", text)
	if len(bad) > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %s", errFailed, strings.Join(bad, ", ")))
	}
	return err
}

// lock keeps a second gate out of the checkout, which would change files and results
// below the first.
func (r *runner) lock() (unlock func(), err error) {
	if err := os.MkdirAll(r.path(logs), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(r.path(logs+"/lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another gate runs in this checkout: %w", err)
	}
	return func() { f.Close() }, nil
}

// results are those that the checkout holds, and those of a call that was killed
// before it could put them there.
func (r *runner) results(tree checkout) (*gate.Results, error) {
	results, err := load(r.path(gate.Store))
	if err != nil {
		return nil, err
	}
	complete(tree, results)
	left, err := load(r.path(pending + "/drills.json"))
	if err != nil {
		return nil, err
	}
	for _, run := range left.Runs {
		results.Put(run)
	}
	return results, nil
}

// complete gives runs the areas that they depend on, where git still has the commit.
func complete(tree checkout, results *gate.Results) {
	for i := range results.Runs {
		r := &results.Runs[i]
		if r.Areas != nil {
			continue
		}
		if t, err := tree.tree(r.Commit); err == nil {
			r.Areas = t.Of(r.Gate)
		}
	}
}

// begin refuses a checkout that is not clean. With goOn, files that the gate and its
// gates write may differ: they are set aside until the end.
func (r *runner) begin(tree checkout, goOn bool, results *gate.Results) error {
	changes, err := tree.changes()
	if err != nil {
		return err
	}
	foreign := slices.DeleteFunc(slices.Clone(changes), func(c change) bool { return goOn && r.own(c.path) })
	if len(foreign) > 0 {
		hint := ""
		if !goOn && !slices.ContainsFunc(changes, func(c change) bool { return !r.own(c.path) }) {
			hint = ", or go on with CONTINUE=1: only results differ"
		}
		return fmt.Errorf("the checkout is not clean, so no result would be of a commit; commit or stash%s:\n%s", hint,
			lines(foreign))
	}
	// Before the files go: what was in them must not be lost if this ends here.
	if err := r.keep(results); err != nil {
		return err
	}
	return tree.setAside(changes, r.path(pending+"/files"))
}

// own reports whether the gate or one of its gates writes a file.
func (r *runner) own(path string) bool {
	return path == gate.Store || path == gate.Page || path == gate.GroundsPage ||
		slices.ContainsFunc(r.list, func(g gate.Gate) bool { return g.MayWrite(path) })
}

// all runs a plan, and returns the names of the gates that have an entry of it. It
// ends early only when it is interrupted, or when the checkout is no longer the commit.
func (r *runner) all(ctx context.Context, tree checkout, of *gate.Tree, commit string, plan *gate.Plan,
	results *gate.Results,
) (ran []string, err error) {
	for i, g := range plan.Run {
		r.say("make %s (%d of %d, about %s; log: %s/%s.log)", g.Name, i+1, len(plan.Run), gate.Took(g.Takes), logs,
			g.Name)
		run, err := r.one(ctx, g)
		if ctx.Err() != nil {
			return ran, fmt.Errorf("interrupted: this run of %s has no entry; CONTINUE=1 goes on", g.Name)
		}
		if err != nil {
			return ran, err
		}
		run.Commit, run.Areas = commit, of.Of(g.Name)
		changes, err := r.changed(tree, commit, g)
		if err != nil {
			return ran, err
		}
		for _, c := range changes {
			run.Wrote = append(run.Wrote, c.path)
		}
		if err := tree.setAside(changes, r.path(pending+"/files")); err != nil {
			return ran, err
		}
		results.Put(*run)
		if err := r.keep(results); err != nil {
			return ran, err
		}
		ran = append(ran, g.Name)
		r.say("%s: %s, after %s", g.Name, run.Outcome(), gate.Took(time.Duration(run.Seconds)*time.Second))
	}
	return ran, nil
}

// changed returns what a gate has written. It is an error when the checkout has
// changed besides: nobody knows then what was run.
func (r *runner) changed(tree checkout, commit string, g gate.Gate) ([]change, error) {
	now, err := tree.head()
	if err != nil {
		return nil, err
	}
	if now != commit {
		return nil, fmt.Errorf("another commit was checked out while %s ran: this run has no entry", g.Name)
	}
	changes, err := tree.changes()
	if err != nil {
		return nil, err
	}
	foreign := slices.DeleteFunc(slices.Clone(changes), func(c change) bool { return g.MayWrite(c.path) })
	if len(foreign) > 0 {
		return nil, fmt.Errorf("the checkout changed while %s ran: this run has no entry:\n%s", g.Name, lines(foreign))
	}
	return changes, nil
}

// one runs a gate to its end and reads its log. A signal to this process is one to
// the gate and all that it has started.
func (r *runner) one(ctx context.Context, g gate.Gate) (*gate.Run, error) {
	makefile, err := os.ReadFile(r.path("Makefile"))
	if err != nil {
		return nil, err
	}
	name := r.path(logs + "/" + g.Name + ".log")
	log, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, "make", "--no-print-directory", g.Name)
	run := &gate.Run{Gate: g.Name, Machine: machine(), Began: r.now().UTC().Truncate(time.Second)}
	cmd.Env, run.Settings = gate.Environment(string(makefile), os.Environ())
	flags, err := goFlags(ctx)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, "GOFLAGS="+flags)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = time.Minute
	began := r.now() // with the monotonic clock, which nobody sets
	err = cmd.Run()
	if ctx.Err() != nil {
		if cmd.Process != nil {
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // who did not mind the first signal
		}
		return nil, ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	run.Seconds, run.Exit = int(r.now().Sub(began).Round(time.Second)/time.Second), cmd.ProcessState.ExitCode()
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	run.Lines, run.Last = gate.ParseLog(string(text))
	run.Ground = gate.ParseGround(string(text))
	return run, nil
}

// goFlags are the flags of the go command, with one more: what go remembers of an
// earlier run is no run.
func goFlags(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, cmp.Or(os.Getenv("GO"), "go"), "env", "GOFLAGS").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOFLAGS: %w", err)
	}
	return strings.TrimSpace(strings.TrimSpace(string(out)) + " -count=1"), nil
}

// machine says in short on what a gate runs.
func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Sprintf("%d CPU", runtime.NumCPU())
	}
	return fmt.Sprintf("Linux %s, %d CPU", unix.ByteSliceToString(u.Release[:]), runtime.NumCPU())
}

// keep puts the results where a call that is killed leaves them for the next one.
func (r *runner) keep(results *gate.Results) error {
	b, err := results.Encode(r.list)
	if err != nil {
		return err
	}
	return writeFile(r.path(pending+"/drills.json"), b, 0o644)
}

// finish gives the checkout all that was kept from it: files of gates, results, page.
func (r *runner) finish(tree checkout, results *gate.Results) error {
	if err := tree.putBack(r.path(pending + "/files")); err != nil {
		return err
	}
	b, err := results.Encode(r.list)
	if err != nil {
		return err
	}
	if err := writeFile(r.path(gate.Store), b, 0o644); err != nil {
		return err
	}
	if err := writePage(r.dir, r.list, results); err != nil {
		return err
	}
	return os.RemoveAll(r.path(pending))
}

func writePage(dir string, list []gate.Gate, results *gate.Results) error {
	now, err := gate.ReadTree(os.DirFS(dir))
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := gate.Render(&page, list, results, now); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, gate.Page), page.Bytes(), 0o644); err != nil {
		return err
	}
	platforms, err := os.ReadFile(filepath.Join(dir, gate.GroundsPage))
	if err != nil {
		return err
	}
	text, err := gate.WithGrounds(string(platforms), results, now)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, gate.GroundsPage), []byte(text), 0o644)
}

// load reads results from a file, which need not exist.
func load(path string) (*gate.Results, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	results, err := gate.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return results, nil
}

// lines lists changes, the first of them if they are many.
func lines(list []change) string {
	var b strings.Builder
	for i, c := range list {
		if i == 10 {
			fmt.Fprintf(&b, "  and %d more\n", len(list)-i)
			break
		}
		fmt.Fprintf(&b, "  %s\n", c)
	}
	return strings.TrimRight(b.String(), "\n")
}
