package trusted

import (
	"fmt"
	"io/fs"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Rule says whose directories and files are trusted. The zero value trusts
// root's only: it is for what root reads or runs.
type Rule struct {
	// Dirs are users besides root, by number, who may own directories on the way.
	Dirs []int
	// Files are users besides root, by number, who may own the file itself.
	Files []int
}

// For returns the rule for what a process of user uid reads or runs for itself:
// root's and, unless that is root too, its own.
func For(uid int) Rule {
	if uid == 0 {
		return Rule{}
	}
	return Rule{Dirs: []int{uid}, Files: []int{uid}}
}

// Error says which component of a path is not trusted, and why.
type Error struct {
	Path    string // what was to be opened
	At      string // the component, without symbolic links; Path itself where it is the file
	Problem string // with its owner and mode
	Remedy  string // a command, or what to do
	// File: the component is the file itself, with this owner and mode.
	File  bool
	Owner int
	Mode  fs.FileMode
}

// Error returns all of it in one line.
func (e *Error) Error() string {
	if e.File && e.At == e.Path {
		return fmt.Sprintf("%s: %s, %s", e.Path, e.Problem, e.Remedy)
	}
	return fmt.Sprintf("%s: %s: %s, %s", e.Path, e.At, e.Problem, e.Remedy)
}

// foreign are the permissions that nobody but the owner may have.
const foreign = unix.S_IWGRP | unix.S_IWOTH

// dir judges a directory on the way; nil if it is trusted.
func (r Rule) dir(path, at string, st *unix.Stat_t) error {
	e := &Error{Path: path, At: at}
	what := fmt.Sprintf("the directory belongs to %s and has mode %04o", UserName(int(st.Uid)), st.Mode&0o7777)
	switch {
	case st.Uid != 0 && !slices.Contains(r.Dirs, int(st.Uid)):
		e.Problem = what + "; its owner could put another file in place of this one"
		e.Remedy = fmt.Sprintf("chown root %s, or move the file to a directory of root's", quote(at))
	case st.Mode&foreign != 0 && st.Mode&unix.S_ISVTX != 0:
		e.Problem = what + "; everybody can put files there"
		e.Remedy = "move the file to a directory that only root can write to"
	case st.Mode&foreign != 0:
		e.Problem = what + "; others can put another file in place of this one"
		e.Remedy = "chmod go-w " + quote(at)
	default:
		return nil
	}
	return e
}

// file judges what the path leads to.
func (r Rule) file(path, at string, st *unix.Stat_t) error {
	e := &Error{Path: path, At: at, File: true, Owner: int(st.Uid), Mode: fs.FileMode(st.Mode & 0o777)}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		e.Mode |= fs.ModeIrregular
	}
	what := fmt.Sprintf("it belongs to %s and has mode %04o", UserName(int(st.Uid)), st.Mode&0o7777)
	switch {
	case !e.Mode.IsRegular():
		e.Problem, e.Remedy = "it is not a regular file", "name a regular file"
	case st.Uid != 0 && !slices.Contains(r.Files, int(st.Uid)):
		e.Problem = what + "; its owner could write anything to it"
		e.Remedy = "look at what it says, then chown root " + quote(at)
	case st.Mode&foreign != 0:
		e.Problem = what + "; others can write to it"
		e.Remedy = "look at what it says, then chmod go-w " + quote(at)
	default:
		return nil
	}
	return e
}

// UserName returns a user's name for messages, or "user N" where none is known.
func UserName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return fmt.Sprintf("user %d", uid)
}

// quote makes a path one word of a shell's.
func quote(path string) string {
	for _, c := range []byte(path) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '/', c == '.', c == '-', c == '_',
			c == '@', c == '+', c == ':':
		default:
			return strconv.Quote(path)
		}
	}
	return path
}
