package keying

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/trusted"
)

// Place is where an IKE daemon is found on this machine.
type Place struct {
	// Elsewhere are where other distributions keep it: the socket, PID file, FIFO and
	// settings of the first of them that is there count instead, where this one's is
	// not there. Of an entry nothing else is used.
	Elsewhere []Place

	Units   []string // of systemd; the first that exists counts
	Socket  string   // control socket
	PIDFile string   // instead of a socket to find its process by
	FIFO    string
	Comms   []string // names of its processes (/proc/PID/comm)
	Many    bool     // it is several processes: one, and its children of the same name
	Control []string // command line of its control program, without a verb
	// Settings is a file for what the control socket does not tell.
	Settings string
	// Config prints the daemon's configuration, for what its control program
	// does not tell.
	Config []string
	// OK are exit codes of the control program that mean success, besides 0.
	OK []int
	// Start, when set, starts the daemon instead of systemd.
	Start func(context.Context) error
}

// Places returns where distributions keep the IKE daemons.
func Places() map[Daemon]Place { return PlacesBelow("") }

// PlacesBelow is Places for a system whose root directory is root, "" for this one.
func PlacesBelow(root string) map[Daemon]Place {
	return map[Daemon]Place{
		// Debian, Ubuntu, Arch Linux, Alpine; then Fedora, RHEL with EPEL and others that
		// give strongSwan directories of its own; then what is built from the sources.
		StrongSwan: {Units: []string{"strongswan.service", "strongswan-starter.service"},
			Socket: root + "/run/charon.vici", FIFO: root + "/run/charon.ha",
			Comms: []string{"charon-systemd", "charon"}, Settings: root + "/etc/swanctl/swanctl.conf",
			Elsewhere: []Place{
				{Socket: root + "/run/strongswan/charon.vici", FIFO: root + "/run/strongswan/charon.ha",
					Settings: root + "/etc/strongswan/swanctl/swanctl.conf"},
				{Settings: root + "/usr/local/etc/swanctl/swanctl.conf"},
			}},
		// whack --shutdown --leave-state ends with 12 in 4.x, with 0 later.
		Libreswan: {Units: []string{"ipsec.service"}, PIDFile: root + "/run/pluto/pluto.pid", Comms: []string{"pluto"},
			Control: []string{"ipsec", "whack"}, OK: []int{12}},
		OpenIKED: {Units: []string{"openiked.service", "iked.service"}, Socket: root + "/run/iked.sock",
			Comms: []string{"iked"}, Many: true,
			Control: []string{"ikectl"}, Config: []string{"sh", "-c", "exec iked -nv 2>&1"}},
		ISAKMPD: {Units: []string{"isakmpd.service"}, FIFO: root + "/run/isakmpd.fifo",
			Comms: []string{"isakmpd"}},
	}
}

// found is p with what is of another distribution, where that is there and p's is not.
func (p Place) found() Place {
	for _, e := range append([]Place{p}, p.Elsewhere...) {
		if e.at() != "" && there(e.at()) {
			p.Socket, p.PIDFile, p.FIFO = e.Socket, e.PIDFile, e.FIFO
			break
		}
	}
	// Those who set things up by hand mix them.
	for _, e := range append([]Place{p}, p.Elsewhere...) {
		if e.Settings != "" && there(e.Settings) {
			p.Settings = e.Settings
			break
		}
	}
	return p
}

// at is the file by which the daemon is found.
func (p Place) at() string {
	switch {
	case p.Socket != "":
		return p.Socket
	case p.PIDFile != "":
		return p.PIDFile
	}
	return p.FIFO
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// absence is ErrNotRunning with all the places that were looked at.
func (p Place) absence(err error) error {
	places := []string{p.at()}
	for _, e := range p.Elsewhere {
		if at := e.at(); at != "" && !slices.Contains(places, at) {
			places = append(places, at)
		}
	}
	if len(places) == 1 {
		return fmt.Errorf("%w (%w)", ErrNotRunning, err)
	}
	return fmt.Errorf("%w (%w; looked for at %s)", ErrNotRunning, err, strings.Join(places, ", "))
}

// Local is Privileged inside this process, which must be root then.
type Local struct {
	Places map[Daemon]Place
	// Found, when set, is told of the file by which a daemon was found, each time.
	Found func(d Daemon, path string)
	// Hooks are the programs of `control exec`, by group.
	Hooks map[string]string
}

func (l *Local) place(d Daemon) (Place, error) {
	p, ok := l.Places[d]
	if !ok {
		return p, fmt.Errorf("find %s: not known here", d)
	}
	return p.found(), nil
}

func (l *Local) tell(d Daemon, p Place) {
	if l.Found != nil {
		l.Found(d, p.at())
	}
}

// absent reports errors of a socket or FIFO that nobody serves.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENXIO)
}

// Dial implements Privileged.
func (l *Local) Dial(ctx context.Context, d Daemon) (net.Conn, error) {
	p, err := l.place(d)
	if err != nil {
		return nil, err
	}
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, "unix", p.Socket)
	if err != nil {
		if absent(err) {
			err = p.absence(err)
		}
		return nil, fmt.Errorf("connect to %s: %w", d, err)
	}
	l.tell(d, p)
	return conn, nil
}

// Running implements Privileged.
func (l *Local) Running(ctx context.Context, d Daemon) error {
	p, err := l.place(d)
	if err != nil {
		return err
	}
	if p.Socket == "" && p.PIDFile == "" {
		fd, err := p.openFIFO(ctx, d)
		if err == nil {
			unix.Close(fd)
			l.tell(d, p)
		}
		return err
	}
	_, done, err := l.process(ctx, d, p)
	if err == nil {
		done()
	}
	return err
}

// Tell implements Privileged.
func (l *Local) Tell(ctx context.Context, d Daemon, line string) error {
	p, err := l.place(d)
	if err != nil {
		return err
	}
	if err := checkLine(d, line); err != nil {
		return err
	}
	fd, err := p.openFIFO(ctx, d)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(line+"\n")); err != nil {
		return fmt.Errorf("write to %s of %s: %w", p.FIFO, d, err)
	}
	return nil
}

func (p Place) openFIFO(ctx context.Context, d Daemon) (fd int, err error) {
	// Without a reader the open fails at once. A daemon that opens its FIFO
	// anew for each line has none for a moment.
	for try := 0; ; try++ {
		fd, err = unix.Open(p.FIFO, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil || !errors.Is(err, unix.ENXIO) || try == 20 || !sleep(ctx, 10*time.Millisecond) {
			break
		}
	}
	if err != nil {
		if absent(err) {
			err = p.absence(err)
		}
		return 0, fmt.Errorf("open %s of %s: %w", p.FIFO, d, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return 0, fmt.Errorf("open %s of %s: not a fifo", p.FIFO, d)
	}
	return fd, nil
}

// Start implements Privileged.
func (l *Local) Start(ctx context.Context, d Daemon) error {
	p, err := l.place(d)
	if err != nil {
		return err
	}
	if p.Start != nil {
		return p.Start(ctx)
	}
	unit, _, err := l.unit(ctx, d, p)
	if err != nil || unit == "" {
		return err // no systemd: somebody else looks after the daemon
	}
	if _, err := run(ctx, []string{"systemctl", "--no-block", "start", unit}, nil, nil); err != nil {
		return fmt.Errorf("start %s: %w", d, err)
	}
	return nil
}

// Unit implements Privileged.
func (l *Local) Unit(ctx context.Context, d Daemon) (map[string]string, error) {
	p, err := l.place(d)
	if err != nil {
		return nil, err
	}
	_, props, err := l.unit(ctx, d, p)
	return props, err
}

func (l *Local) unit(ctx context.Context, d Daemon, p Place) (string, map[string]string, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return "", nil, nil
	}
	for _, u := range p.Units {
		out, err := run(ctx, []string{"systemctl", "show", "-p", "Id,LoadState,ActiveState,KillSignal,Restart," +
			"SuccessExitStatus,ExecStart,ExecStop,ExecStopPost,ExecStartPre", u}, nil, nil)
		if err != nil {
			return "", nil, fmt.Errorf("show %s: %w", u, err)
		}
		props := make(map[string]string)
		for line := range strings.Lines(out) {
			if k, v, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
				props[k] += v
			}
		}
		if props["LoadState"] == "loaded" && !l.others(d, props["Id"]) {
			props["Id"] = u
			return u, props, nil
		}
	}
	return "", nil, nil
}

// others reports whether the unit of that name is another IKE daemon's:
// Debian's strongswan-starter.service is ipsec.service too.
func (l *Local) others(d Daemon, id string) bool {
	for other, p := range l.Places {
		if other != d && slices.Contains(p.Units, id) {
			return true
		}
	}
	return false
}

// Control implements Privileged.
func (l *Local) Control(ctx context.Context, d Daemon, v Verb) (string, error) {
	p, err := l.place(d)
	if err != nil {
		return "", err
	}
	args, err := v.args(d)
	if err != nil {
		return "", err
	}
	if d == StrongSwan && v.Do == "settings" {
		return swanSettings(p.Settings)
	}
	if v.Do == "instance" {
		return l.instance(ctx, d, p)
	}
	if d == OpenIKED && v.Do == "policies" {
		out, err := run(ctx, p.Config, nil, nil)
		if err != nil {
			return "", fmt.Errorf("read configuration of %s: %w", d, err)
		}
		return ikedEnds(out), nil
	}
	out, err := run(ctx, append(slices.Clone(p.Control), args...), nil, nil)
	var exit *exec.ExitError
	if errors.As(err, &exit) && slices.Contains(p.OK, exit.ExitCode()) {
		err = nil
	}
	if err != nil {
		return out, fmt.Errorf("%s of %s: %w", v.Do, d, err)
	}
	return out, nil
}

// Hook implements Privileged.
func (l *Local) Hook(ctx context.Context, o Order) error {
	path, ok := l.Hooks[o.Group]
	if !ok {
		return fmt.Errorf("run hook of group %q: none is configured", o.Group)
	}
	if err := o.Check(); err != nil {
		return err
	}
	program, err := trusted.For(os.Geteuid()).Program(path)
	if err != nil {
		return fmt.Errorf("run hook: %w", err)
	}
	defer program.Close()
	if o.VIPs == nil {
		o.VIPs = []netip.Addr{}
	}
	in, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("tell the hook: %w", err)
	}
	_, err = runCommand(ctx, program.Command(ctx), o.environment(), append(in, '\n'))
	return err
}
