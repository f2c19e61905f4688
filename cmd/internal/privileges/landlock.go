package privileges

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Access says what a process may go on to do below a path.
type Access uint8

// Accesses.
const (
	Read   Access = iota + 1 // read files, list directories
	Change                   // that, and write, make, rename and remove files, sockets, fifos and directories
)

// Path is a file or directory that a process may go on to use, with all below it.
type Path struct {
	Path string
	Access
}

// Reads returns what it takes to read a file again later. An editor replaces
// files, and a rule is about a file and not about its name; so it is the
// directory, and where the file is a link that of its target too.
func Reads(file string) []Path {
	out := []Path{{filepath.Dir(file), Read}}
	if real, err := filepath.EvalSymlinks(file); err == nil && filepath.Dir(real) != filepath.Dir(file) {
		out = append(out, Path{filepath.Dir(real), Read})
	}
	return out
}

// Common returns what every daemon reads at times: what the system says of it and
// of networks, names and the time zone. The runtime looks at the limits of its
// control group.
func Common() []Path {
	return []Path{{"/proc", Read}, {"/sys/fs/cgroup", Read}, {"/etc", Read}, {"/run/systemd/resolve", Read},
		{"/usr/share/zoneinfo", Read}, {"/dev/null", Change}}
}

// Rights of landlock(7), by the version in which they came. Those of a file are
// what a rule for one may have.
const (
	readRights   = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	changeRights = readRights | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
	fileRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	firstRights = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // all of version 1
)

// handled are the rights that a kernel with this version takes away, but for
// what rules allow. The network is left alone: what sasyncd connects to and
// listens on may change with a reload.
func handled(version int) uint64 {
	rights := uint64(firstRights)
	for _, later := range []struct {
		version int
		right   uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE},
		{5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}} {
		if version >= later.version {
			rights |= later.right
		}
	}
	return rights
}

// allowed are the rights that a rule gives.
func allowed(a Access, dir bool, version int) uint64 {
	rights := uint64(readRights)
	if a == Change {
		rights = changeRights
	}
	if !dir {
		rights &= fileRights
	}
	return rights & handled(version)
}

// existing is the path, or what is nearest above it.
func existing(path string, exists func(string) bool) string {
	path = filepath.Clean(path)
	for !exists(path) && path != "/" && path != "." {
		path = filepath.Dir(path)
	}
	return path
}

// merged are the paths that are there, each once, with all that it is listed for.
func merged(paths []Path, exists func(string) bool) []Path {
	var out []Path
	for _, p := range paths {
		if !exists(p.Path) && p.Access == Read && optional(p.Path) {
			continue
		}
		p.Path = existing(p.Path, exists)
		if i := slices.IndexFunc(out, func(o Path) bool { return o.Path == p.Path }); i >= 0 {
			out[i].Access = max(out[i].Access, p.Access)
			continue
		}
		out = append(out, p)
	}
	return out
}

// optional reports whether a path is one of Common, in place of which nothing
// above has to be readable.
func optional(path string) bool {
	return slices.ContainsFunc(Common(), func(c Path) bool { return c.Path == path })
}

// ErrUnrestricted is returned, wrapped with the reason, where Restrict can do
// nothing.
var ErrUnrestricted = errors.New("files are not restricted")

// Restrict takes from all threads of this process, and from all that it will
// start, the right to use other files than these, by landlock(7), and to gain
// privileges by executing programs. Descriptors that are open stay as they are;
// connections to sockets and what the owner of a file may do to its metadata are
// not affected. It returns the kernel's version of landlock. Where the kernel
// has none, or the program was built with cgo, whose threads cannot be reached,
// nothing is changed.
func Restrict(paths []Path) (version int, err error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, fmt.Errorf("%w: the kernel has no landlock, or a filter keeps it away: %w", ErrUnrestricted, errno)
	}
	version = int(v)
	rules, err := ruleset(paths, version)
	if err != nil {
		return version, err
	}
	defer unix.Close(rules)
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		if errno == unix.ENOTSUP {
			return version, fmt.Errorf("%w: the program was built with cgo", ErrUnrestricted)
		}
		return version, fmt.Errorf("set no_new_privs: %w", errno)
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(rules), 0, 0); errno != 0 {
		return version, fmt.Errorf("restrict files: %w", errno)
	}
	return version, nil
}

// ruleset makes the kernel's object with all rules.
func ruleset(paths []Path, version int) (fd int, err error) {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled(version)}
	// The size says that what follows the first field is not given.
	//nolint:gosec // so takes the kernel it
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)),
		unsafe.Sizeof(attr.Handled_access_fs), 0)
	if errno != 0 {
		return -1, fmt.Errorf("make a set of rules for files: %w", errno)
	}
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	for _, p := range merged(paths, exists) {
		if err := addRule(int(n), p, version); err != nil {
			unix.Close(int(n))
			return -1, fmt.Errorf("allow files of %s: %w", p.Path, err)
		}
	}
	return int(n), nil
}

func addRule(rules int, p Path, version int) error {
	at, err := unix.Open(p.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // it was not accessible before, either
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return err
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: allowed(p.Access, st.Mode&unix.S_IFMT == unix.S_IFDIR,
		version), Parent_fd: int32(at)}
	//nolint:gosec // so takes the kernel it
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// RestrictAndLog is Restrict as the daemons use it: it is a further line of
// defence, so a daemon goes on without.
func RestrictAndLog(log *slog.Logger, paths []Path) {
	version, err := Restrict(paths)
	switch {
	case err == nil:
		log.Info("files are restricted", "landlock", version)
	case errors.Is(err, ErrUnrestricted):
		log.Info("files are not restricted", "reason", strings.TrimPrefix(err.Error(), ErrUnrestricted.Error()+": "))
	default:
		log.Warn("files are not restricted", "err", err)
	}
}
