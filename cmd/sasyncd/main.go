// Command sasyncd replicates IPsec SAs, policies and replay counters between
// redundant gateways. See sasyncd(8) and sasyncd.conf(5).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
)

const defaultConfig = "/etc/sasyncd.conf"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	f, err := daemon.DaemonFlags("sasyncd", defaultConfig, args, stderr)
	if err != nil {
		return daemon.ExitUsage
	}
	if f.Version {
		fmt.Fprintln(stdout, daemon.Version("sasyncd"))
		return daemon.ExitOK
	}
	c, err := conf.LoadSasyncd(f.Config)
	if err != nil {
		fmt.Fprintln(stderr, err)
		if conf.IsConfig(err) {
			return daemon.ExitConfig
		}
		return daemon.ExitFailure
	}
	if f.Check {
		for _, w := range c.Warnings {
			fmt.Fprintln(stderr, w)
		}
		if f.Verbose > 0 {
			if err := c.Print(stdout); err != nil {
				return daemon.ExitFailure
			}
		}
		return daemon.ExitOK
	}
	log := daemon.NewLogger(stderr, f.Debug, f.Verbose)
	for _, w := range c.Warnings {
		log.Warn("configuration", "problem", w.Error())
	}
	profile(log)
	p, err := build(c, f, log)
	if err == nil {
		err = p.Run(context.Background())
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
