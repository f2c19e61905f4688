package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"sasyncd/kernel/trusted"
)

// maxFile is more than any configuration needs; a larger file is a mistake.
const maxFile = 1 << 20

// Reader opens files of a configuration. The zero value opens them itself, and
// accepts those of root and of the running user. How a path is followed, and what
// is accepted on the way, says package trusted.
type Reader struct {
	// Open, when set, opens a file for reading instead. It judges the path. Its error
	// is fs.ErrPermission or fs.ErrNotExist only where waiting would not help.
	Open func(path string) (*os.File, error)
	// Main and Named say who else may own the configuration itself, and the files
	// that it names.
	Main, Named trusted.Rule
}

// Open opens a file of a configuration as the running user.
func Open(path string) (*os.File, error) { return trusted.For(os.Geteuid()).Open(path) }

// with returns the rule of the running user, with those whom more names.
func with(more trusted.Rule) trusted.Rule {
	r := trusted.For(os.Geteuid())
	return trusted.Rule{Dirs: append(r.Dirs, more.Dirs...), Files: append(r.Files, more.Files...)}
}

// LoadSasyncd reads a configuration with the zero Reader.
func LoadSasyncd(path string) (*Sasyncd, error) { return Reader{}.LoadSasyncd(path) }

// LoadSasyncd reads sasyncd.conf and the key files that it names. Each must be
// a regular file that belongs to root or to the running user and that others
// can neither read nor write; one that holds a key must not be open to its
// group either. Nobody else may be able to write to a directory on the way. What
// is wrong is reported as Errors.
func (r Reader) LoadSasyncd(path string) (*Sasyncd, error) {
	src, mode, err := r.readMain(path)
	if err != nil {
		return nil, err
	}
	c, err := ParseSasyncd(path, src)
	if err != nil {
		return nil, err
	}
	var d diagnostics
	d.checkSecretMode(path, mode, c.inlineSecret)
	for i := range c.Keys {
		k := &c.Keys[i]
		if k.File == "" {
			continue
		}
		if text, ok := d.readKey(r, k.File); ok {
			read, problem, remedy := sharedKey(text)
			if problem != "" {
				d.errorf(Pos{File: k.File}, remedy, "%s", problem)
			}
			k.Secret, k.Text = read.Secret, read.Text
		}
	}
	for _, g := range c.Groups {
		if g.Control.Kind != ControlStatic {
			continue
		}
		res, err := r.LoadStatic(g.Control.Path)
		c.StaticFiles = append(c.StaticFiles, res.Files...)
		if err != nil {
			d.add(err)
		}
	}
	for i, k := range c.Keys {
		for _, o := range c.Keys[:i] {
			if k.Secret.Len() > 0 && k.Secret.Equal(o.Secret) {
				d.errorf(k.Pos, "remove one of them", "the key is the same as that of line %d", o.Pos.Line)
			}
		}
	}
	for _, k := range c.Keys {
		at := k.Pos
		if k.File != "" {
			at = Pos{File: k.File}
		}
		d.weakKey(k.Secret, k.Text, at)
	}
	c.programs(r, &d)
	if err := d.err(); err != nil {
		return nil, err
	}
	c.Warnings = sorted(append(c.Warnings, d.warns...))
	return c, nil
}

// ReadRoots reads a configuration that root alone can have written: what root
// does on behalf of others follows such a file only.
func ReadRoots(path string) ([]byte, error) {
	src, _, err := Reader{Open: trusted.Rule{}.Open}.read(path, trusted.Rule{}, remedyMain)
	return src, err
}

// LoadCarpd reads a configuration with the zero Reader.
func LoadCarpd(path string) (*Carpd, error) { return Reader{}.LoadCarpd(path) }

// LoadCarpd reads carpd.conf and the key files that it names, under the rules
// of LoadSasyncd.
func (r Reader) LoadCarpd(path string) (*Carpd, error) {
	src, mode, err := r.readMain(path)
	if err != nil {
		return nil, err
	}
	c, err := ParseCarpd(path, src)
	if err != nil {
		return nil, err
	}
	var d diagnostics
	d.checkSecretMode(path, mode, c.inlineSecret)
	for i := range c.Instances {
		for j := range c.Instances[i].Keys {
			k := &c.Instances[i].Keys[j]
			if k.File == "" {
				continue
			}
			if text, ok := d.readKey(r, k.File); ok {
				secret, problem, remedy := authSecret(text)
				if problem != "" {
					d.errorf(Pos{File: k.File}, remedy, "%s", problem)
				}
				k.Secret, k.Text = secret, !strings.HasPrefix(text, "0x")
			}
		}
		for _, k := range c.Instances[i].Keys {
			at := k.Pos
			if k.File != "" {
				at = Pos{File: k.File}
			}
			d.weakKey(k.Secret, k.Text, at)
		}
	}
	c.programs(r, &d)
	if err := d.err(); err != nil {
		return nil, err
	}
	c.Warnings = sorted(append(c.Warnings, d.warns...))
	return c, nil
}

// readKey reads a file with one key in its only line.
func (d *diagnostics) readKey(r Reader, path string) (string, bool) {
	src, mode, err := r.readNamed(path)
	if err != nil {
		d.add(err)
		return "", false
	}
	d.checkSecretMode(path, mode, Pos{File: path})
	src = bytes.TrimSuffix(bytes.TrimSuffix(src, []byte("\n")), []byte("\r"))
	if bytes.ContainsAny(src, "\r\n\x00") {
		d.errorf(Pos{File: path}, "write one key in characters on one line, for example 0x and 64 hexadecimal digits",
			"the key file is not a line of text")
		return "", false
	}
	return string(src), true
}

func (r Reader) readMain(path string) ([]byte, fs.FileMode, error) {
	return r.read(path, with(r.Main), remedyMain)
}

func (r Reader) readNamed(path string) ([]byte, fs.FileMode, error) {
	return r.read(path, with(r.Named), remedyNamed)
}

// read opens path, has checked what it has opened (not the name, which may mean
// another file a moment later), and reads it. denied says what to do about a file
// that the running user may not read, where nobody opens it instead.
func (r Reader) read(path string, rule trusted.Rule, denied func(path string) string) ([]byte, fs.FileMode, error) {
	open := r.Open
	if open == nil {
		open = rule.Open
	}
	f, err := open(path)
	if e, ok := errors.AsType[*trusted.Error](err); ok {
		return nil, 0, Errors{untrusted(e, rule)}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, Errors{{Pos{File: path}, "it does not exist", "write it or name another file"}}
	case errors.Is(err, fs.ErrPermission) && r.Open == nil:
		return nil, 0, Errors{{Pos{File: path}, "it may not be read", denied(path)}}
	case errors.Is(err, fs.ErrPermission): // nor by who opens root's
		return nil, 0, Errors{{Pos{File: path}, fmt.Sprintf("it may not be read: %v", err), "chown root " + path +
			", or mend what is said here"}}
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		return nil, 0, Errors{{Pos{File: path}, fmt.Sprintf("the name leads to no file: %v", err), "name another file"}}
	case err != nil: // it may pass
		return nil, 0, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("stat configuration: %w", err)
	}
	owner := ownerOf(st)
	if problem, remedy := fileProblem(st.Mode(), owner, rule.Files...); problem != "" {
		return nil, 0, Errors{{Pos{File: path}, problem, remedy}}
	}
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read configuration: %w", err)
	}
	if len(src) > maxFile {
		return nil, 0, Errors{{Pos{File: path}, "the file is larger than 1 MiB", "name a configuration file"}}
	}
	return src, st.Mode(), nil
}

// ownerOf returns the number of a file's owner, -1 where it is not known.
func ownerOf(st fs.FileInfo) int {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(sys.Uid)
	}
	return -1
}

// untrusted puts what package trusted says of a path into the words of this one.
func untrusted(e *trusted.Error, rule trusted.Rule) Error {
	at := Pos{File: e.Path}
	if e.File && (e.Owner == 0 || slices.Contains(rule.Files, e.Owner)) {
		if problem, remedy := fileProblem(e.Mode, e.Owner, rule.Files...); problem != "" {
			return Error{at, problem, remedy}
		}
	}
	if e.At != e.Path {
		return Error{at, e.At + ": " + e.Problem, e.Remedy}
	}
	return Error{at, e.Problem, e.Remedy}
}

// remedyMain is for a configuration that the running user may not read. It stays
// root's: root follows no other.
func remedyMain(path string) string {
	return fmt.Sprintf("let the group of the user that runs the daemon read it: chgrp %d %s; chmod 640 %s",
		os.Getegid(), path, path)
}

// remedyNamed is for a file with a key that the running user may not read.
func remedyNamed(path string) string {
	return fmt.Sprintf("give it to the user that runs the daemon: chown %s %s", trusted.UserName(os.Geteuid()), path)
}

// fileProblem says what is wrong with a file as far as that can be said without
// its content, "" if nothing. It may belong to root and to the others.
func fileProblem(mode fs.FileMode, owner int, others ...int) (problem, remedy string) {
	switch {
	case !mode.IsRegular():
		return "it is not a regular file", "name a regular file"
	case owner != 0 && !slices.Contains(others, owner):
		return "it belongs to " + trusted.UserName(owner), "give it to root with chown root"
	case mode.Perm()&0o027 != 0:
		return fmt.Sprintf("its mode %04o gives access to others", mode.Perm()), "set it with chmod 600"
	}
	return "", ""
}

// checkSecretMode refuses a file with a secret in it, at, that its group can
// read. A file without secrets has a zero at.
func (d *diagnostics) checkSecretMode(path string, mode fs.FileMode, at Pos) {
	if at.IsZero() || mode.Perm()&0o077 == 0 {
		return
	}
	if at.Line == 0 {
		at = Pos{File: path}
	}
	d.errorf(at, "set it with chmod 600", "a key stands in a file whose mode %04o lets its group read it", mode.Perm())
}
