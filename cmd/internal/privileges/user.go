package privileges

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// User is one that a daemon runs as.
type User struct {
	Name     string
	UID, GID int
	Groups   []int // supplementary
}

// FindUser returns the first of the users that exists, nil if none does. One
// with the rights of root is an error.
func FindUser(names ...string) (*User, error) {
	for _, name := range names {
		u, err := user.Lookup(name)
		var unknown user.UnknownUserError
		if errors.As(err, &unknown) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find user %s: %w", name, err)
		}
		out := &User{Name: name}
		out.UID, err = strconv.Atoi(u.Uid)
		var gerr error
		out.GID, gerr = strconv.Atoi(u.Gid)
		groups, lerr := u.GroupIds()
		if err := errors.Join(err, gerr, lerr); err != nil {
			return nil, fmt.Errorf("find user %s: %w", name, err)
		}
		for _, g := range groups {
			if id, err := strconv.Atoi(g); err == nil {
				out.Groups = append(out.Groups, id)
			}
		}
		if out.UID <= 0 || out.GID <= 0 {
			return nil, fmt.Errorf("find user %s: it is root", name)
		}
		return out, nil
	}
	return nil, nil
}

// FindGroup returns the number of the first of the groups that exists, 0 if
// none does.
func FindGroup(names ...string) int {
	for _, name := range names {
		if g, err := user.LookupGroup(name); err == nil {
			if id, err := strconv.Atoi(g.Gid); err == nil {
				return id
			}
		}
	}
	return 0
}

// GiveDir makes a directory of the user's own. One that exists is given to the
// user if it is root's and holds nothing but files with the given names, which
// an earlier run of the daemon as root has left; any other stays as it is.
func GiveDir(path string, mode fs.FileMode, u *User, own ...string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	err := os.Mkdir(path, mode)
	if err == nil {
		err = os.Chmod(path, mode) // whatever the umask
	} else if errors.Is(err, fs.ErrExist) {
		if !left(path, own) {
			return nil
		}
		err = nil
	}
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	// As long as the directory is root's, nobody else can put a link there.
	for _, name := range own {
		if err := os.Lchown(filepath.Join(path, name), u.UID, u.GID); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("give file to %s: %w", u.Name, err)
		}
	}
	if err := os.Lchown(path, u.UID, u.GID); err != nil {
		return fmt.Errorf("give directory to %s: %w", u.Name, err)
	}
	return nil
}

// left reports whether a directory is root's alone and has only such files.
func left(path string, own []string) bool {
	st, err := os.Lstat(path)
	if err != nil || !st.IsDir() || st.Mode().Perm()&0o022 != 0 {
		return false
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || sys.Uid != 0 {
		return false
	}
	entries, err := os.ReadDir(path)
	return err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !slices.Contains(own, e.Name()) })
}
