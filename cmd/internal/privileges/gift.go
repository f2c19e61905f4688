package privileges

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/trusted"
)

// gifts are the directories below which root gives directories to a daemon's user
// (file-hierarchy(7)), and withheld those of them whose files root obeys.
var (
	gifts    = []string{"/run", "/var/lib"}
	withheld = []string{"/run/systemd", "/run/udev", "/run/dbus", "/var/lib/systemd", "/var/lib/dpkg", "/var/lib/rpm"}
)

// GiveDir makes a directory of the user's own. One that exists is given to the
// user if it is root's and holds nothing but files with the given names, which
// an earlier run of the daemon as root has left; any other stays as it is.
//
// What is made or given is below /run or /var/lib, wherever symbolic links lead,
// and every directory above it is root's and writable by nobody else. Elsewhere
// it is an error to need one; a directory that needs no gift may be anywhere.
func GiveDir(path string, mode fs.FileMode, u *User, own ...string) error {
	if st, err := os.Lstat(path); err == nil && !left(path, st, own) {
		return nil
	}
	at, real, missing, err := trusted.Rule{}.Dir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { at.Close() }()
	missing = append(missing, filepath.Base(path))
	if target := filepath.Join(append([]string{real}, missing...)...); !givable(target) {
		return fmt.Errorf("give directory %s to %s: root gives away directories below %s only; make it yourself: "+
			"install -d -o %s -m %04o %s",
			target, u.Name, strings.Join(gifts, " and "), u.Name, mode, target)
	}
	for _, name := range missing[:len(missing)-1] {
		next, err := subdir(at, name, 0o755)
		if err != nil {
			return err
		}
		at.Close()
		at = next
	}
	dir, err := subdir(at, missing[len(missing)-1], mode)
	if err != nil {
		return err
	}
	defer dir.Close()
	// As long as the directory is root's, nobody else can put a link there.
	for _, name := range own {
		if err := unix.Fchownat(int(dir.Fd()), name, u.UID, u.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil &&
			!errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("give file to %s: %w", u.Name, err)
		}
	}
	if err := dir.Chown(u.UID, u.GID); err != nil {
		return fmt.Errorf("give directory to %s: %w", u.Name, err)
	}
	return nil
}

// givable reports whether a directory, named without symbolic links, may be given
// away.
func givable(path string) bool {
	below := func(dir string) bool { return strings.HasPrefix(path, dir+"/") }
	return slices.ContainsFunc(gifts, below) && !slices.ContainsFunc(withheld, func(d string) bool {
		return path == d ||
			below(d)
	})
}

// subdir opens a directory in another one, and makes it with this mode if it does
// not exist. It is no symbolic link.
func subdir(at *os.File, name string, mode fs.FileMode) (*os.File, error) {
	path := filepath.Join(at.Name(), name)
	err := unix.Mkdirat(int(at.Fd()), name, uint32(mode))
	made := err == nil
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	var fd int
	if err == nil {
		fd, err = unix.Openat(int(at.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("make directory %s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	if made {
		if err := dir.Chmod(mode); err != nil { // whatever the umask
			dir.Close()
			return nil, fmt.Errorf("make directory %s: %w", path, err)
		}
	}
	return dir, nil
}

// left reports whether a directory is root's alone and has only such files.
func left(path string, st fs.FileInfo, own []string) bool {
	if !st.IsDir() || st.Mode().Perm()&0o022 != 0 || !ofRoot(st) {
		return false
	}
	entries, err := os.ReadDir(path)
	return err == nil && !slices.ContainsFunc(entries,
		func(e fs.DirEntry) bool { return !slices.Contains(own, e.Name()) })
}

func ofRoot(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Uid == 0
}
