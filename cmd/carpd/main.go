// Command carpd elects the master among gateways that share virtual addresses,
// and holds the addresses and the fence. See carpd(8) and carpd.conf(5).
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"

	"golang.org/x/sys/unix"

	"sasyncd/carp/engine"
	"sasyncd/carp/filter"
	"sasyncd/carp/vip"
	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/privileges"
	trustedpath "sasyncd/kernel/trusted"
)

const (
	defaultConfig = "/etc/carpd.conf"
	verbCleanup   = "cleanup"

	// minProcs keeps a processor of the runtime free while the engine's thread
	// sleeps in the kernel. With a single one its next work would wait until
	// the runtime notices, up to 10 ms. And threads without priority hold theirs
	// while a busy machine does not let them run; there must be more than of
	// those.
	minProcs = 16

	// memoryLimit is when the runtime begins to collect garbage, in bytes. What
	// stops the world runs without priority, and on a busy machine the engine's
	// thread would wait for it. An idle carpd allocates a few kilobytes a second.
	memoryLimit = 64 << 20
)

func main() {
	runtime.GOMAXPROCS(max(minProcs, runtime.GOMAXPROCS(0)))
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	f, err := daemon.DaemonFlags("carpd", defaultConfig, args, stderr, verbCleanup)
	switch {
	case err != nil:
		return daemon.ExitUsage
	case f.Help:
		fmt.Fprintln(stdout, f.Usage)
		return daemon.ExitOK
	case f.Version:
		fmt.Fprintln(stdout, daemon.Version("carpd"))
		return daemon.ExitOK
	}
	if len(f.Args) > 0 && f.Args[0] == daemon.VerbFormat {
		return daemon.Format("carpd", f, f.Args[1:], func(file string, src []byte) (text, shown, source []byte, err error) {
			x, err := conf.FormatCarpd(file, src)
			return x.Text, x.Shown, x.Source, err
		}, os.Stdin, stdout, stderr)
	}
	c, err := reader(f.Check || len(f.Args) > 0).LoadCarpd(f.Config)
	if err != nil {
		fmt.Fprintln(stderr, err)
		if conf.IsConfig(err) {
			return daemon.ExitConfig
		}
		return daemon.ExitFailure
	}
	if f.Check {
		warnings := slices.Concat(c.Warnings, misfits(c), c.Absent(conf.Interfaces()))
		if other := conf.SasyncdBeside(f.Config); other != nil {
			warnings = append(warnings, other.Unmatched(c)...)
		}
		refused := slices.Concat(c.Refused, conf.WebProblem(c.MetricsConfig, daemon.CheckWeb))
		return daemon.Checked(f, warnings, refused, c.Print, stdout, stderr)
	}
	cfg := engineConfig(c)
	log := daemon.NewLogger(stderr, f.Debug, f.Verbose)
	for _, w := range c.Warnings {
		log.Warn("configuration", "problem", w.Error())
	}
	for _, r := range c.Refused {
		log.Error("configuration", "problem", r.Error())
	}
	// Before anything is touched, and before root gives up what opens the files of
	// another user.
	claim, err := makeClaim(c, len(f.Args) == 0, log)
	switch {
	case err != nil:
	case len(f.Args) > 0:
		err = cleanup(cfg, openFreezer(c.StateDir), log)
		claim.Close()
	default:
		if err = confine(claim); err == nil {
			if err := privileges.Harden(); err != nil {
				log.Warn("keys may get into a core dump", "err", err)
			}
			err = serve(f.Config, c, cfg, log)
			claim.Close()
		}
	}
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

// reader is how the configuration is read. What root asks about the files that
// belong to the user carpd of the unit is answered; a carpd that root starts
// could not read them again at a reload, see confine.
func reader(asks bool) conf.Reader {
	var r conf.Reader
	if asks && os.Geteuid() == 0 {
		if u, err := privileges.FindUser("_carpd", "carpd"); err == nil && u != nil {
			r.Main, r.Named = trustedpath.For(u.UID), trustedpath.For(u.UID)
		}
	}
	return r
}

// confine leaves a carpd that root has started no more than it needs. It stays
// root, whose files it reads, without root's power over the files of others.
// Its socket is for the group of its own, which sasyncd is in, or for sasyncd's.
// The claim lives on in the process that it becomes.
func confine(c *claim) error {
	caps := []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_SYS_NICE, unix.CAP_IPC_LOCK}
	if !privileges.Needed(caps) {
		return nil
	}
	env, err := c.pass()
	if err != nil {
		return err
	}
	return privileges.Confinement{GID: privileges.FindGroup("_carpd", "carpd", "_sasyncd", "sasyncd"),
		Caps: caps}.Exec(env)
}

// cleanup makes the node silent at boot, or after its carpd was killed.
func cleanup(cfg engine.Config, freezer engine.Freezer, log *slog.Logger) error {
	fence, err := openFence()
	if err != nil {
		return err
	}
	defer fence.Close()
	hold, err := openHold()
	if err != nil {
		return err
	}
	defer hold.Close()
	addresses, err := vip.NewVirtual()
	if err != nil {
		return err
	}
	defer addresses.Close()
	err = engine.Cleanup(cfg, engine.Deps{Fence: fence, Addresses: addresses, Freezer: freezer,
		Filter: new(filter.Rules), Hold: hold, Log: log})
	// Opening it lets the node's own ICMP pass again, if carpd was killed meanwhile.
	hops, herr := vip.NewNextHops()
	if herr == nil {
		hops.Close()
	}
	return errors.Join(err, herr)
}
