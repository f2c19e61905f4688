package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/privileges"
	"sasyncd/kernel/trusted"
	"sasyncd/keying"
	"sasyncd/keying/privsep"
)

// servePrivileged is the privileged process: it does what the network-facing
// one asks for, as far as root's sasyncd.conf names it, until that one ends.
func servePrivileged(f daemon.Flags, log *slog.Logger) error {
	src := source{f.Config}
	if r, err := src.Rules(); err == nil && len(r.Hooks) == 0 && privileges.Needed(privilegedCaps()) {
		// A hook may want all of root's rights; what is done here does not.
		return privileges.Confinement{Caps: privilegedCaps(), NoNew: true}.Exec()
	}
	file, err := privileges.Take(privileges.PassedFD)
	if err != nil {
		return errByHand
	}
	conn, err := privsep.Conn(file)
	if err != nil {
		return errors.Join(errByHand, err)
	}
	// It ends when nobody asks any more, which in a stop is after the last
	// change of role: not when a terminal or a service manager says so.
	// Caught rather than ignored, which hooks would inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	tell := found(log)
	local := func(r privsep.Rules) keying.Privileged {
		return &keying.Local{Places: r.Places, Hooks: r.Hooks, Found: tell}
	}
	return privsep.NewServer(src, local, log).Serve(context.Background(), conn)
}

// privilegedCaps are those of sasyncd-privileged@.service.
func privilegedCaps() []uintptr { return []uintptr{unix.CAP_KILL, unix.CAP_NET_ADMIN} }

var errByHand = errors.New("the privileged process is started by sasyncd or by sasyncd-privileged.socket, not by hand")

// source is sasyncd.conf as the privileged process reads it itself.
type source struct{ path string }

// Rules implements privsep.Source. A file that somebody else than root could
// have written allows nothing.
func (s source) Rules() (privsep.Rules, error) {
	src, err := conf.ReadRoots(s.path)
	if err != nil {
		return privsep.Rules{}, failure(err)
	}
	r := privsep.Rules{Files: []string{s.path}}
	c, err := conf.ParseSasyncd(s.path, src)
	if err != nil {
		return r, err // the other process reads it, and says so
	}
	for _, k := range c.Keys {
		if k.File != "" {
			r.Files = append(r.Files, k.File)
		}
	}
	r.Hooks, r.Places = hooks(c), places(c)
	for _, g := range c.Groups {
		r.Daemons = append(r.Daemons, daemonsOf(g.Control.Kind)...)
		if g.Control.Kind == conf.ControlStatic {
			files, err := conf.StaticFiles(g.Control.Path)
			if err != nil {
				return privsep.Rules{}, failure(err)
			}
			r.Files = append(r.Files, files...)
		}
	}
	return r, nil
}

// failure tells a failure of the system from a configuration that allows nothing.
func failure(err error) error {
	if conf.IsConfig(err) {
		return err
	}
	return fmt.Errorf("%w: %w", privsep.ErrUnread, err)
}

// Open implements privsep.Source. The descriptor goes to a process that is not
// root, so that nobody but root may have a say in which file it is.
func (source) Open(path string) (*os.File, error) { return trusted.Rule{}.Open(path) }

// hooks are the programs of `control exec`, by group.
func hooks(c *conf.Sasyncd) map[string]string {
	out := make(map[string]string)
	for _, g := range c.Groups {
		if g.Control.Kind == conf.ControlExec {
			out[g.Interface] = g.Control.Path
		}
	}
	return out
}

// places are where IKE daemons are, as distributions and the configuration say.
func places(c *conf.Sasyncd) map[keying.Daemon]keying.Place {
	out := keying.Places()
	for _, g := range c.Groups {
		ctl := g.Control
		for _, d := range daemonsOf(ctl.Kind) {
			p := out[d]
			if ctl.At != "" {
				switch d {
				case keying.StrongSwan, keying.OpenIKED:
					p.Socket = ctl.At
				case keying.Libreswan:
					p.PIDFile = ctl.At
				case keying.ISAKMPD:
					p.FIFO = ctl.At
				}
				// The FIFO of the ha plugin is beside the socket.
				if d == keying.StrongSwan {
					p.FIFO = filepath.Join(filepath.Dir(ctl.At), filepath.Base(p.FIFO))
				}
			}
			p.FIFO, p.Settings = cmp.Or(ctl.FIFO, p.FIFO), cmp.Or(ctl.Settings, p.Settings)
			for i := range p.Elsewhere { // what is said is not looked for
				e := &p.Elsewhere[i]
				if ctl.At != "" {
					e.Socket, e.PIDFile, e.FIFO = "", "", ""
				}
				if ctl.FIFO != "" && e.Socket != "" {
					e.FIFO = ctl.FIFO
				}
				if ctl.Settings != "" {
					e.Settings = ""
				}
			}
			out[d] = p
		}
	}
	return out
}

// found logs where an IKE daemon was found: at the first time, and when it is another
// place. It may be called concurrently.
func found(log *slog.Logger) func(keying.Daemon, string) {
	var last sync.Map
	return func(d keying.Daemon, path string) {
		if was, _ := last.Swap(d, path); was != path {
			log.Info("ike daemon found", "daemon", d, "file", path)
		}
	}
}

// daemonsOf are the IKE daemons that a driver deals with.
func daemonsOf(k conf.ControlKind) []keying.Daemon {
	switch k {
	case conf.ControlStrongswan, conf.ControlStrongswanHA:
		return []keying.Daemon{keying.StrongSwan}
	case conf.ControlLibreswan:
		return []keying.Daemon{keying.Libreswan}
	case conf.ControlIked:
		return []keying.Daemon{keying.OpenIKED}
	case conf.ControlIsakmpd:
		return []keying.Daemon{keying.ISAKMPD}
	case conf.ControlAll:
		return []keying.Daemon{keying.ISAKMPD, keying.OpenIKED}
	case conf.ControlAuto:
		return []keying.Daemon{keying.StrongSwan, keying.Libreswan, keying.OpenIKED, keying.ISAKMPD}
	}
	return nil
}
