package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/privileges"
	"sasyncd/keying"
	"sasyncd/keying/privsep"
)

// What joins the two processes.
const (
	// privilegedSocket is that of sasyncd-privileged.socket.
	privilegedSocket = "/run/sasyncd-privileged.sock"
	// passedVar holds the number of the descriptor that leads to the other process.
	passedVar = "SASYNCD_PRIVILEGED" //nolint:gosec // no secret
	// openLimit is how long the other process may take to open a file. A service
	// manager that starts a machine starts it for the first one.
	openLimit = 20 * time.Second
)

// users are those that the network-facing process runs as, the first that exists.
func users() []string { return []string{"_sasyncd", "sasyncd"} }

// networkCaps are what the network-facing process keeps.
func networkCaps() []uintptr { return []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE} }

// privilegedLink is what a process knows of the division.
type privilegedLink struct {
	// client leads to the privileged process; nil if there is none, as in a
	// process that is root itself.
	client *privsep.Client
	passed bool // it was started for this process, and ends with it
	reader conf.Reader
}

// findPrivilegedLink returns how this process gets at what it has no right to.
func findPrivilegedLink() (*privilegedLink, error) {
	h := &privilegedLink{}
	if fd, err := strconv.Atoi(os.Getenv(passedVar)); err == nil {
		os.Unsetenv(passedVar)
		f, err := privileges.Take(fd)
		if err != nil {
			return nil, err
		}
		conn, err := privsep.Conn(f)
		if err != nil {
			return nil, err
		}
		h.client, h.passed = privsep.NewClient(conn), true
	} else if os.Geteuid() != 0 {
		if _, err := os.Stat(privilegedSocket); err == nil {
			h.client = privsep.NewLazyClient(dialPrivileged)
		}
	} else if u, err := privileges.FindUser(users()...); err == nil && u != nil {
		// The keys of the network-facing process may be its own. The configuration
		// may not: root follows root's only.
		h.reader.Named.Files = []int{u.UID}
	}
	if h.client != nil {
		h.reader.Open = h.open
	}
	return h, nil
}

func dialPrivileged() (*net.UnixConn, error) {
	return net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: privilegedSocket, Net: "unixpacket"})
}

// open opens a file of the configuration, with the other process's help where
// it is root's alone.
func (h *privilegedLink) open(path string) (*os.File, error) {
	f, err := conf.Open(path)
	if !errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	return h.ask(path, err, openLimit)
}

// ask has the other process open a file that this one may not open, as denied says.
// Only what the other process judges is about the file. All else may pass.
func (h *privilegedLink) ask(path string, denied error, limit time.Duration) (*os.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	f, err := h.client.Open(ctx, path)
	switch {
	case err == nil:
		return f, nil
	case privsep.Judged(err):
		return nil, fmt.Errorf("%w; the privileged process says: %w", denied, err)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("the privileged process has not opened %s within %v", path, limit)
	}
	return nil, fmt.Errorf("the privileged process has not opened %s: %v", path, err) // not fs.ErrPermission
}

// privileged is what the drivers of IKE daemons act through. The other process
// would refuse to follow a configuration that is not root's.
func (h *privilegedLink) privileged(c *conf.Sasyncd, log *slog.Logger) keying.Privileged {
	if h.client != nil && !foreign(c.File) {
		return h.client
	}
	if h.client != nil && acts(c) {
		log.Warn("the ike daemon is not controlled with root's rights, as the configuration is not root's; chown root",
			"file", c.File)
	}
	return &keying.Local{Places: places(c), Hooks: hooks(c), Found: found(log)}
}

// foreign reports whether a file is known to be somebody else's than root's.
func foreign(path string) bool {
	st, err := os.Stat(path)
	if err != nil {
		return false // what cannot be seen is for the other process to judge
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return !ok || sys.Uid != 0
}

// task ends when the process that was started for this one does: without it, no
// change of role would reach the IKE daemon.
func (h *privilegedLink) task() daemon.Task {
	return daemon.NewTask("privileged process", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-h.client.Ended():
			return errors.New("the privileged process has ended")
		}
	})
}

// divide makes two processes of one that root has started: a small one that
// stays root, and this one, which executes itself anew as a user without rights
// but those to the network. It returns if there is nothing to divide, which it
// says, or with an error.
func divide(c *conf.Sasyncd, f daemon.Flags, log *slog.Logger) error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := privileges.FindUser(users()...)
	if err != nil {
		return err
	}
	if u == nil {
		return stayRoot(c, log)
	}
	if g := privileges.FindGroup("_carpd", "carpd"); g != 0 { // for carpd's socket
		u.Groups = append(u.Groups, g)
	}
	socket := filepath.Base(c.Socket)
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{{c.StateDir, 0o700}, {filepath.Dir(c.Socket), 0o755}} {
		if err := privileges.GiveDir(d.path, d.mode, u, socket, socket+".lock", socket+".new", "node-id", "node-id.new",
			"terms", "sasyncd.terms", "sasyncd.terms.new", "sasyncd.starts", "sasyncd.starts.new",
			daemon.NumbersFile, daemon.NumbersFile+".new"); err != nil {
			return err
		}
	}
	ours, theirs, err := privsep.Pair()
	if err != nil {
		return err
	}
	if err := privileges.Spawn(theirs, privilegedArgs(f)...); err != nil {
		return err
	}
	theirs.Close()
	fd, err := privileges.Keep(ours)
	if err != nil {
		return err
	}
	log.Info("divided", "user", u.Name)
	err = privileges.Confinement{User: u, Caps: networkCaps(), NoNew: true}.Exec(fmt.Sprintf("%s=%d", passedVar, fd))
	runtime.KeepAlive(ours)
	return err
}

// stayRoot leaves a process of root that cannot be another user's no more
// capabilities than that one would have. One that controls an IKE daemon itself
// keeps them all: who stands in for the service manager there may need any.
func stayRoot(c *conf.Sasyncd, log *slog.Logger) error {
	if !acts(c) && privileges.Needed(networkCaps()) {
		return privileges.Confinement{GID: privileges.FindGroup("_carpd", "carpd"), Caps: networkCaps(),
			NoNew: true}.Exec()
	}
	log.Warn("the process that talks to the network runs as root, as there is no user sasyncd; make it: " +
		"systemd-sysusers, or useradd --system sasyncd")
	return nil
}

// acts reports whether any IKE daemon is controlled, or a program run.
func acts(c *conf.Sasyncd) bool {
	return slices.ContainsFunc(c.Groups, func(g conf.SyncGroup) bool {
		return g.Control.Kind != conf.ControlNone && g.Control.Kind != conf.ControlStatic
	})
}

const verbPrivileged = "privileged"

// privilegedArgs is the command line of the privileged process.
func privilegedArgs(f daemon.Flags) []string {
	args := []string{"-c", f.Config}
	if f.Debug {
		args = append(args, "-d")
	}
	for range f.Verbose {
		args = append(args, "-v")
	}
	return append(args, verbPrivileged)
}
