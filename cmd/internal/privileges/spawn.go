package privileges

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// PassedFD is where a process finds the descriptor that it is started with: by
// Spawn, and by a socket unit of systemd with Accept=yes (sd_listen_fds(3)).
const PassedFD = 3

// Spawn starts this program as another process, with the same standard streams
// and with f as PassedFD. It is in a session of its own: what ends this process
// from a terminal does not end that one, which ends when f does.
func Spawn(f *os.File, args ...string) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { // it does not speak in this one's name
		return strings.HasPrefix(v, "NOTIFY_SOCKET=") || strings.HasPrefix(v, "WATCHDOG_")
	})
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", exe, err)
	}
	return nil
}

// Keep lets a descriptor survive Exec, and returns its number.
func Keep(f *os.File) (int, error) {
	fd := int(f.Fd())
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
		return 0, fmt.Errorf("keep descriptor: %w", err)
	}
	return fd, nil
}

// Take returns a descriptor that this process was started with; no process that
// it starts gets it.
func Take(fd int) (*os.File, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("take descriptor %d: %w", fd, err)
	}
	return os.NewFile(uintptr(fd), "passed"), nil
}
