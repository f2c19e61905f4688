package harness

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	envSpec  = "HARNESS_SPEC"
	guestRW  = "/run/harness/rw"
	exitFile = "exit"
)

// spec is what the host tells the guest's init.
type spec struct {
	Binary  string
	Args    []string
	Env     []string
	Dir     string
	RW      string   // host directory that the guest may write
	Visible []string // host directories to show even where a fresh file system hides them
	Disk    string   // host directory to mount, writable, at DiskDir; none if empty
	Files   hostFiles
}

// hostFiles says how a guest sees its host's files.
type hostFiles struct {
	Kind    string // "hostfs", which mounts any directory, or "virtiofs", which mounts what was shared
	Modules string // directory of the guest's modules, with one directory per release
}

// Where a guest has what only the harness needs.
const (
	guestModuleDir = "/run/harness/modules" // a link: modprobe is started without our environment
	guestHostDir   = "/run/harness/host"    // all files of the host
)

// hiddenDirs get a fresh tmpfs in the guest, because its root is read-only.
var hiddenDirs = []string{"/run", "/tmp", "/var/lib", "/var/tmp", "/var/log"}

// guestInit is PID 1 of the guest. It never returns: the guest is powered off,
// and the result is in a file if there is one.
func guestInit() {
	code, err := guestRun()
	if err != nil {
		fmt.Fprintf(os.Stderr, "harness: guest: %v\n", err) // the kernel console
	} else {
		err = writeExit(code)
		if err != nil {
			fmt.Fprintf(os.Stderr, "harness: guest: %v\n", err)
		}
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	os.Exit(1)
}

func writeExit(code int) error {
	f, err := os.Create(filepath.Join(guestRW, exitFile))
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	_, err = f.WriteString(strconv.Itoa(code))
	return errors.Join(err, f.Sync(), f.Close())
}

func guestRun() (int, error) {
	b, err := os.ReadFile(os.Getenv(envSpec))
	if err != nil {
		return 0, fmt.Errorf("read orders: %w", err)
	}
	var s spec
	if err := json.Unmarshal(b, &s); err != nil {
		return 0, fmt.Errorf("read orders: %w", err)
	}
	if err := guestMounts(&s); err != nil {
		return 0, err
	}
	if err := guestModules(&s); err != nil {
		return 0, err
	}
	if err := loopbackUp(); err != nil {
		return 0, err
	}
	stdout, err := openLine("/dev/ttyS0")
	if err != nil {
		return 0, err
	}
	stderr, err := openLine("/dev/ttyS1")
	if err != nil {
		return 0, err
	}
	if s.Files.Kind == "hostfs" { // elsewhere the kernel is killed with its starter
		if err := watchLifeline("/dev/ttyS2"); err != nil {
			return 0, err
		}
	}
	cmd := &exec.Cmd{Path: s.Binary, Args: s.Args, Env: s.Env, Dir: s.Dir, Stdout: stdout, Stderr: stderr}
	// A session of its own, so that no line becomes a controlling terminal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start: %w", err)
	}
	code, err := reapUntil(cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	for _, line := range []*os.File{stdout, stderr} {
		// Everything printed must have reached the host before the power goes.
		for {
			err := unix.IoctlSetInt(int(line.Fd()), unix.TCSBRK, 1)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EINTR) {
				return 0, fmt.Errorf("drain output: %w", err)
			}
		}
	}
	return code, nil
}

// reapUntil waits for all children, as PID 1 must, until pid ends.
func reapUntil(pid int) (int, error) {
	for {
		var ws unix.WaitStatus
		p, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case p == pid && ws.Exited():
			return ws.ExitStatus(), nil
		case p == pid && ws.Signaled():
			return 128 + int(ws.Signal()), nil
		}
	}
}

func guestMounts(s *spec) error {
	type mount struct {
		fs, at, data string
		from         string
		flags        uintptr
	}
	ms := []mount{
		{fs: "proc", at: "/proc"}, {fs: "sysfs", at: "/sys"}, {fs: "devtmpfs", at: "/dev"},
		{fs: "devpts", at: "/dev/pts", data: "ptmxmode=0666"}, {fs: "tmpfs", at: "/dev/shm"},
	}
	for _, d := range hiddenDirs {
		data := "mode=1777"
		switch d {
		case "/run", "/var/lib", "/tmp": // tests keep configurations in /tmp, and those must be in root's directories
			data = "mode=0755"
		}
		ms = append(ms, mount{fs: "tmpfs", at: d, data: data})
	}
	if s.Files.Kind == "hostfs" {
		ms = append(ms, mount{fs: "hostfs", at: guestRW, data: s.RW})
	} else {
		ms = append(ms, mount{fs: "virtiofs", from: shareRW, at: guestRW},
			mount{fs: "virtiofs", from: shareHost, at: guestHostDir, flags: unix.MS_RDONLY})
	}
	if s.Disk != "" {
		ms = append(ms, mount{fs: "hostfs", at: DiskDir, data: s.Disk})
	}
	for _, d := range s.Visible {
		switch {
		case !under(d, hiddenDirs):
		case s.Files.Kind == "hostfs":
			ms = append(ms, mount{fs: "hostfs", at: d, data: d, flags: unix.MS_RDONLY})
		default:
			ms = append(ms, mount{from: guestHostDir + d, at: d, flags: unix.MS_BIND})
		}
	}
	for _, m := range ms {
		// On the read-only root this fails where the directory is absent, and so will the mount.
		os.MkdirAll(m.at, 0o755)
		err := unix.Mount(cmp.Or(m.from, "none"), m.at, m.fs, m.flags, m.data)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s on %s: %w", cmp.Or(m.fs, m.from), m.at, err)
		}
	}
	return nil
}

// under reports whether dir lies below one of the parents.
func under(dir string, parents []string) bool {
	for _, p := range parents {
		if strings.HasPrefix(dir, p+"/") {
			return true
		}
	}
	return false
}

// guestModules loads modules, readies the ciphers, and then makes this binary
// the kernel's modprobe for whatever else is wanted.
func guestModules(s *spec) error {
	setHelper := func(path string) error {
		if err := os.WriteFile("/proc/sys/kernel/modprobe", []byte(path), 0); err != nil {
			return fmt.Errorf("set modprobe: %w", err)
		}
		return nil
	}
	if err := setHelper("\n"); err != nil { // an empty write would change nothing
		return err
	}
	if err := os.Symlink(s.Files.Modules, guestModuleDir); err != nil {
		return fmt.Errorf("link modules: %w", err)
	}
	x, err := openModules()
	if err == nil {
		err = x.preload()
	}
	if err != nil {
		return fmt.Errorf("load modules: %w", err)
	}
	if err := warmCiphers(); err != nil {
		return fmt.Errorf("warm up ciphers: %w", err)
	}
	helper := "/run/harness/" + modprobeName
	if err := os.Symlink(s.Binary, helper); err != nil {
		return fmt.Errorf("link modprobe: %w", err)
	}
	script, err := x.refuser("/run/harness", helper)
	if err != nil {
		return fmt.Errorf("ready modprobe: %w", err)
	}
	return setHelper(script)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err == nil {
		ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
	}
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	return nil
}

// openLine opens a serial line that the host connected to a pipe and turns off
// everything a terminal would do to the bytes.
func openLine(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open line to the host: %w", err)
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err == nil {
		t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
		err = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
	}
	if err != nil {
		return nil, fmt.Errorf("set up line %s: %w", name, err)
	}
	return f, nil
}

// watchLifeline powers the guest off when the host's end of the line closes.
func watchLifeline(name string) error {
	f, err := openLine(name)
	if err != nil {
		return err
	}
	go func() {
		f.Read(make([]byte, 1)) // nothing is ever sent, so any return is the end
		unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}()
	return nil
}
