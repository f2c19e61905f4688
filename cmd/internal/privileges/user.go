package privileges

import (
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"strconv"
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
