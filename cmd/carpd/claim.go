package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sasyncd/cmd/internal/conf"
)

// claim is the right to change what carpd owns: the state directory, and the
// addresses, rules and tables of a network namespace. One process has it at a time.
// The kernel ends it with the process, however that ends.
//
// Both are locks of a byte (F_OFD_SETLK, fcntl(2)) of files that only root and
// carpd's user can open, so that nobody else can keep carpd from starting:
//
//   - the first byte of "lock" in the state directory;
//   - of "lock" in the default runtime directory, the byte with the number of the
//     network namespace. It finds a carpd whose configuration names another state
//     directory and socket.
type claim struct{ files []*os.File }

// errClaimed is that another carpd has the claim.
var errClaimed = errors.New("another carpd is running")

// claimVariable names the descriptors of a claim to the process that confine executes.
const claimVariable = "CARPD_CLAIM"

// runtimeDir is the same for all configurations.
var runtimeDir = filepath.Dir(conf.DefaultCarpdSocket)

// makeClaim takes the claim. With create it makes the files; without, as for a
// cleanup whose file system is read-only, a file that is not there is a claim that
// nobody has. A lock that cannot be taken for another reason than another process is
// logged: a gateway with a broken disk still carries traffic.
func makeClaim(c *conf.Carpd, create bool, log *slog.Logger) (*claim, error) {
	if inherited, err := inheritClaim(); inherited != nil || err != nil {
		return inherited, err
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		return nil, fmt.Errorf("look up network namespace: %w", err)
	}
	out := &claim{}
	for _, l := range []struct {
		dir  string
		mode fs.FileMode
		at   uint64
		what string
	}{
		{c.StateDir, 0o700, 0, "with this state directory"},
		{runtimeDir, 0o755, ns.Ino, "in this network namespace"},
	} {
		path := filepath.Join(l.dir, "lock")
		f, err := lockByte(path, int64(l.at), create, l.mode)
		switch {
		case err == nil:
			out.files = append(out.files, f)
		case errors.Is(err, errClaimed):
			out.Close()
			return nil, fmt.Errorf("%w %s (it has locked %s); stop it first", errClaimed, l.what, path)
		case !create && errors.Is(err, fs.ErrNotExist):
		default:
			log.Warn("a second carpd would not be noticed", "err", err)
		}
	}
	return out, nil
}

// Close gives the claim up.
func (c *claim) Close() {
	for _, f := range c.files {
		f.Close()
	}
}

// lockByte locks one byte of a file. Where it can only be read, the lock is a shared
// one: it excludes who can write.
func lockByte(path string, at int64, create bool, mode fs.FileMode) (*os.File, error) {
	f, err := openLock(path, create, mode)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	kind := int16(unix.F_WRLCK)
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err == nil && flags&unix.O_ACCMODE == unix.O_RDONLY {
		kind = unix.F_RDLCK
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: at, Len: 1})
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EAGAIN):
		err = errClaimed
	}
	f.Close()
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// openLock opens a lock file, for writing if that is possible. One that root makes
// belongs to the owner of its directory, who must be able to open it too.
func openLock(path string, create bool, mode fs.FileMode) (*os.File, error) {
	const flags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	dir := filepath.Dir(path)
	if create {
		if err := os.MkdirAll(dir, mode); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|flags, 0o600)
		if err == nil {
			var d unix.Stat_t
			if unix.Stat(dir, &d) == nil && int(d.Uid) != os.Geteuid() {
				err = f.Chown(int(d.Uid), int(d.Gid))
			}
			if err != nil {
				f.Close()
				return nil, err
			}
			return f, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
	if errors.Is(err, unix.EROFS) {
		f, err = os.OpenFile(path, os.O_RDONLY|flags, 0)
	}
	return f, err
}

// pass has the claim live on in the program that this process executes next, and
// returns what its environment needs. Until then nothing else may be executed: it
// would keep the claim.
func (c *claim) pass() (env string, err error) {
	var numbers []string
	for _, f := range c.files {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
			return "", fmt.Errorf("pass claim on: %w", err)
		}
		numbers = append(numbers, strconv.Itoa(int(f.Fd())))
	}
	return claimVariable + "=" + strings.Join(numbers, ","), nil
}

// inheritClaim takes over what the process before has passed on, nil if nothing.
func inheritClaim() (*claim, error) {
	value, ok := os.LookupEnv(claimVariable)
	if !ok {
		return nil, nil
	}
	// No program that this process starts is to see it.
	if err := os.Unsetenv(claimVariable); err != nil {
		return nil, fmt.Errorf("take claim over: %w", err)
	}
	out := &claim{}
	for number := range strings.SplitSeq(value, ",") {
		if number == "" {
			continue
		}
		fd, err := strconv.ParseUint(number, 10, 31)
		if err == nil {
			_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
		}
		if err != nil {
			out.Close()
			return nil, fmt.Errorf("take claim over: %s=%q: %w", claimVariable, value, err)
		}
		out.files = append(out.files, os.NewFile(uintptr(fd), "lock"))
	}
	return out, nil
}
