package privileges

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Confinement is what a process of root keeps.
type Confinement struct {
	User *User // nil: it stays root
	// GID is the group of a process that stays root; 0 is root's.
	GID  int
	Caps []uintptr // CAP_...; all others are gone for good
	// NoNew: no program that it executes gains privileges (no_new_privs).
	NoNew bool
}

// Needed reports whether this process is root and could have more than caps.
func Needed(caps []uintptr) bool {
	if os.Geteuid() != 0 {
		return false
	}
	more := false
	_ = eachOther(caps, func(uintptr) error { // f's errors are all that it returns
		more = true
		return nil
	})
	return more
}

// eachOther calls f for the capabilities of the bounding set that are not in caps.
func eachOther(caps []uintptr, f func(uintptr) error) error {
	keep := make(map[uintptr]bool)
	for _, c := range caps {
		keep[c] = true
	}
	for c := range uintptr(64) {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil {
			return nil // beyond the last one that this kernel knows
		}
		if has == 1 && !keep[c] {
			if err := f(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// Exec executes this program anew, confined, with the same arguments and with
// env added to its environment. It returns only if that fails; the process must
// end then, as it may have lost a part of its privileges.
func (c Confinement) Exec(env ...string) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	// All of the following is about this thread, or about all.
	runtime.LockOSThread()
	if err := c.apply(); err != nil {
		return err
	}
	env = append(os.Environ(), env...)
	err = syscall.Exec(exe, os.Args, env) //nolint:gosec // itself
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		// A path that only root can walk, or an upgrade in this moment.
		err = syscall.Exec("/proc/self/exe", os.Args, env) //nolint:gosec // itself
	}
	return fmt.Errorf("execute %s anew: %w", exe, err)
}

func (c Confinement) apply() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	if err := eachOther(c.Caps, func(drop uintptr) error {
		return unix.Prctl(unix.PR_CAPBSET_DROP, drop, 0, 0, 0)
	}); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	gid, groups := c.GID, []int{}
	if c.User != nil {
		gid, groups = c.User.GID, c.User.Groups
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("set group: %w", err)
	}
	if c.User != nil {
		if err := syscall.Setresuid(c.User.UID, c.User.UID, c.User.UID); err != nil {
			return fmt.Errorf("become %s: %w", c.User.Name, err)
		}
	}
	if err := c.raise(); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if c.NoNew {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	return nil
}

// raise makes the capabilities last: ambient ones survive an execve(2) of a
// user who is not root (capabilities(7)).
func (c Confinement) raise() error {
	var data [2]unix.CapUserData
	for _, keep := range c.Caps {
		data[keep/32].Permitted |= 1 << (keep % 32)
	}
	for i := range data {
		data[i].Effective, data[i].Inheritable = data[i].Permitted, data[i].Permitted
	}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return err
	}
	if c.User == nil {
		return nil
	}
	for _, keep := range c.Caps {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, keep, 0, 0); err != nil {
			return err
		}
	}
	return nil
}
