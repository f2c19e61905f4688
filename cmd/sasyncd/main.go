// Command sasyncd replicates IPsec SAs, policies and replay counters between
// redundant gateways. See sasyncd(8) and sasyncd.conf(5).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/privileges"
)

const defaultConfig = "/etc/sasyncd.conf"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	f, err := daemon.DaemonFlags("sasyncd", defaultConfig, args, stderr, verbPrivileged, verbGuard, verbGuardWait,
		verbGuardOff, verbGuardLoad, verbGuardRemove)
	switch {
	case err != nil:
		return daemon.ExitUsage
	case f.Help:
		fmt.Fprintln(stdout, f.Usage)
		return daemon.ExitOK
	case f.Version:
		fmt.Fprintln(stdout, daemon.Version("sasyncd"))
		return daemon.ExitOK
	}
	if len(f.Args) > 0 && f.Args[0] == daemon.VerbFormat {
		return daemon.Format("sasyncd", f, f.Args[1:], func(file string, src []byte) (text, shown, source []byte,
			err error) {
			x, err := conf.FormatSasyncd(file, src)
			return x.Text, x.Shown, x.Source, err
		}, os.Stdin, stdout, stderr)
	}
	log := daemon.NewLogger(stderr, f.Debug, f.Verbose)
	switch {
	case len(f.Args) == 0:
	case f.Args[0] == verbPrivileged:
		return ended(log, errors.Join(privileges.Harden(), servePrivileged(f, log)))
	case f.Args[0] == verbGuardLoad, f.Args[0] == verbGuardRemove:
		return ended(log, serveLeakGuard(f, log))
	default:
		return ended(log, serveGuard(f, log))
	}
	h, err := findPrivilegedLink()
	if err != nil {
		return ended(log, err)
	}
	c, err := h.reader.LoadSasyncd(f.Config)
	if err != nil {
		fmt.Fprintln(stderr, err)
		if conf.IsConfig(err) {
			return daemon.ExitConfig
		}
		return daemon.ExitFailure
	}
	if f.Check {
		warnings := slices.Concat(c.Warnings, c.Absent(conf.Interfaces()))
		if other := conf.CarpdBeside(f.Config); other != nil {
			warnings = append(warnings, c.Unmatched(other)...)
		}
		refused := slices.Concat(c.Refused, conf.WebProblem(c.MetricsConfig, daemon.CheckWeb))
		return daemon.Checked(f, warnings, refused, c.Print, stdout, stderr)
	}
	if err := divide(c, f, log); err != nil {
		return ended(log, err)
	}
	if err := privileges.Harden(); err != nil {
		log.Warn("keys may get into a core dump", "err", err)
	}
	for _, w := range c.Warnings {
		log.Warn("configuration", "problem", w.Error())
	}
	for _, r := range c.Refused {
		log.Error("configuration", "problem", r.Error())
	}
	profile(log)
	p, err := build(c, f, h, log)
	if err == nil {
		confine(c, h, log)
		err = p.Run(context.Background())
	}
	return ended(log, err)
}

// ended says why the program ends, and returns its exit code.
func ended(log *slog.Logger, err error) int {
	switch {
	case err == nil:
		return daemon.ExitOK
	case errors.Is(err, fs.ErrPermission):
		daemon.LogError(log, "lacking privilege", err)
		return daemon.ExitPrivilege
	}
	daemon.LogError(log, "stopped", err)
	return daemon.ExitFailure
}
