package keying

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/process"
	"sasyncd/kernel/trusted"
)

// Place is where an IKE daemon is found on this machine.
type Place struct {
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

// Places returns where Debian and Fedora keep the IKE daemons.
func Places() map[Daemon]Place {
	return map[Daemon]Place{
		StrongSwan: {Units: []string{"strongswan.service", "strongswan-starter.service"},
			Socket: "/run/charon.vici", FIFO: "/run/charon.ha", Comms: []string{"charon-systemd", "charon"},
			Settings: "/etc/swanctl/swanctl.conf"},
		// whack --shutdown --leave-state ends with 12 in 4.x, with 0 later.
		Libreswan: {Units: []string{"ipsec.service"}, PIDFile: "/run/pluto/pluto.pid", Comms: []string{"pluto"},
			Control: []string{"ipsec", "whack"}, OK: []int{12}},
		OpenIKED: {Units: []string{"openiked.service", "iked.service"}, Socket: "/run/iked.sock", Comms: []string{"iked"}, Many: true,
			Control: []string{"ikectl"}, Config: []string{"sh", "-c", "exec iked -nv 2>&1"}},
		ISAKMPD: {Units: []string{"isakmpd.service"}, FIFO: "/run/isakmpd.fifo", Comms: []string{"isakmpd"}},
	}
}

// Local is Privileged inside this process, which must be root then.
type Local struct {
	Places map[Daemon]Place
	// Hooks are the programs of `control exec`, by group.
	Hooks map[string]string
}

func (l *Local) place(d Daemon) (Place, error) {
	p, ok := l.Places[d]
	if !ok {
		return p, fmt.Errorf("find %s: not known here", d)
	}
	return p, nil
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
			err = fmt.Errorf("%w (%w)", ErrNotRunning, err)
		}
		return nil, fmt.Errorf("connect to %s: %w", d, err)
	}
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
		}
		return err
	}
	_, done, err := l.process(ctx, d, p)
	if err == nil {
		done()
	}
	return err
}

// process finds the daemon's main process, which stays what it is until done
// is called, as far as that can be had.
func (l *Local) process(ctx context.Context, d Daemon, p Place) (pid int, done func(), err error) {
	if p.PIDFile == "" {
		conn, err := l.Dial(ctx, d)
		if err != nil {
			return 0, nil, err
		}
		if pid, err = peerPID(conn); err != nil {
			conn.Close()
			return 0, nil, fmt.Errorf("find process of %s: %w", d, err)
		}
		return pid, func() { conn.Close() }, nil
	}
	b, err := os.ReadFile(p.PIDFile)
	if err == nil {
		if pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil || pid < 2 {
			return 0, nil, fmt.Errorf("find process of %s: %s does not have a process number", d, p.PIDFile)
		}
		if comm, _, cerr := identify(pid); cerr != nil || !slices.Contains(p.Comms, comm) {
			err = fs.ErrNotExist // left by one that has died
		}
	}
	if absent(err) {
		err = fmt.Errorf("%w (%s)", ErrNotRunning, p.PIDFile)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("find process of %s: %w", d, err)
	}
	return pid, func() {}, nil
}

// instance names the process that runs, so that one that was replaced between
// two looks is told from one that went on.
func (l *Local) instance(ctx context.Context, d Daemon, p Place) (string, error) {
	pid, done, err := l.process(ctx, d, p)
	if err != nil {
		return "", err
	}
	defer done()
	st, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNotRunning, err)
	}
	return fmt.Sprintf("%d since %d", pid, st.ModTime().UnixNano()), nil
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
			err = fmt.Errorf("%w (%w)", ErrNotRunning, err)
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

// Kill implements Privileged. The processes are those of the daemon's own
// control socket, whoever else bears the same name.
func (l *Local) Kill(ctx context.Context, d Daemon) error {
	p, err := l.place(d)
	if err != nil {
		return err
	}
	pid, done, err := l.process(ctx, d, p)
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer done()
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, pid := range family(pid, p) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // gone already
		}
		fds = append(fds, fd)
	}
	if len(fds) == 0 {
		return fmt.Errorf("kill %s: process %d is none of %q", d, pid, p.Comms)
	}
	// Stopped first: one that saw another die would clean up after itself. The
	// parent dies last: its death wakes stopped children whose process groups it
	// leaves orphaned (setpgid(2)).
	for _, sig := range []syscall.Signal{unix.SIGSTOP, unix.SIGKILL} {
		for _, fd := range fds {
			if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill %s: %w", d, err)
			}
		}
	}
	for _, fd := range fds {
		if err := waitPidfd(ctx, fd); err != nil {
			return fmt.Errorf("wait for the end of %s: %w", d, err)
		}
	}
	return nil
}

func peerPID(conn net.Conn) (int, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return int(cred.Pid), nil
}

// family returns pid, if it is a process of the daemon, and if the daemon is
// several, its parent and siblings or its children; the parent comes last. Those
// of OpenIKED are in process groups of their own, so these do not tell.
func family(pid int, p Place) []int {
	comm, parent, err := identify(pid)
	if err != nil || !slices.Contains(p.Comms, comm) {
		return nil
	}
	if !p.Many {
		return []int{pid}
	}
	first := pid
	if c, _, err := identify(parent); err == nil && slices.Contains(p.Comms, c) {
		first = parent
	}
	var pids []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []int{pid}
	}
	for _, e := range entries {
		other, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if c, parent, err := identify(other); err == nil && parent == first && slices.Contains(p.Comms, c) {
			pids = append(pids, other)
		}
	}
	return append(pids, first)
}

// identify returns a process's name and parent (proc(5), /proc/PID/stat).
func identify(pid int) (comm string, parent int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, err
	}
	// The name is in parentheses and may have any character.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return "", 0, fmt.Errorf("read /proc/%d/stat: no name in it", pid)
	}
	if f := strings.Fields(string(b[end+1:])); len(f) > 1 {
		parent, err = strconv.Atoi(f[1])
	}
	return string(b[open+1 : end]), parent, err
}

// waitPidfd waits until the process has ended.
func waitPidfd(ctx context.Context, fd int) error {
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return ctx.Err()
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
		out, err := run(ctx, []string{"systemctl", "show", "-p", "Id,LoadState,ActiveState,KillSignal,Restart,SuccessExitStatus,ExecStart,ExecStop,ExecStopPost,ExecStartPre", u}, nil, nil)
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

// run runs a command in a process group of its own, which ends with ctx. The
// error carries the end of what it printed on standard error.
func run(ctx context.Context, args, env []string, stdin []byte) (string, error) {
	return runCommand(ctx, exec.CommandContext(ctx, args[0], args[1:]...), env, stdin)
}

func runCommand(ctx context.Context, cmd *exec.Cmd, env []string, stdin []byte) (string, error) {
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, env...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{b: &stdout}, &limited{b: &stderr}
	process.Contain(cmd)
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	if err != nil {
		if said := strings.TrimSpace(stderr.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said[max(0, len(said)-200):])
		}
		err = fmt.Errorf("run %s: %w", filepath.Base(cmd.Args[0]), err)
	}
	return stdout.String(), err
}

// limited keeps the first 4 MiB and drops the rest.
type limited struct{ b *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := 4<<20 - l.b.Len(); room > 0 {
		l.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
