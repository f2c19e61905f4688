package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
)

// maxFile is more than any configuration needs; a larger file is a mistake.
const maxFile = 1 << 20

// Reader opens files of a configuration. The zero value opens them itself, and
// accepts those of root and of the running user.
type Reader struct {
	// Open opens a file for reading, without waiting for a writer of a FIFO.
	Open func(path string) (*os.File, error)
	// Owners are further users, by number, to whom files may belong.
	Owners []int
}

// Open opens a file of a configuration as the running user.
func Open(path string) (*os.File, error) {
	// O_NONBLOCK: opening a FIFO must not wait for a writer.
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
}

// LoadSasyncd reads a configuration with the zero Reader.
func LoadSasyncd(path string) (*Sasyncd, error) { return Reader{}.LoadSasyncd(path) }

// LoadSasyncd reads sasyncd.conf and the key files that it names. Each must be
// a regular file that belongs to root or to the running user and that others
// can neither read nor write; one that holds a key must not be open to its
// group either. What is wrong is reported as Errors.
func (r Reader) LoadSasyncd(path string) (*Sasyncd, error) {
	src, mode, err := r.readFile(path)
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
		if text, ok := d.readKey(r, k.File, k.Pos); ok {
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
			es, ok := errors.AsType[Errors](err)
			if !ok {
				return nil, err
			}
			d.errs = append(d.errs, es...)
		}
	}
	for i, k := range c.Keys {
		for _, o := range c.Keys[:i] {
			if k.Secret.Len() > 0 && k.Secret.Equal(o.Secret) {
				d.errorf(k.Pos, "remove one of them", "the key is the same as that of line %d", o.Pos.Line)
			}
		}
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// ReadRoots reads a configuration that root alone can have written: what root
// does on behalf of others follows such a file only.
func ReadRoots(path string) ([]byte, error) {
	src, _, err := Reader{}.read(path, func(mode fs.FileMode, owner int) (problem, remedy string) {
		if owner != 0 {
			return fmt.Sprintf("it belongs to user %d, who could have root do anything with it", owner), "give it to root"
		}
		return fileProblem(mode, owner)
	})
	return src, err
}

// LoadCarpd reads a configuration with the zero Reader.
func LoadCarpd(path string) (*Carpd, error) { return Reader{}.LoadCarpd(path) }

// LoadCarpd reads carpd.conf and the key files that it names, under the rules
// of LoadSasyncd.
func (r Reader) LoadCarpd(path string) (*Carpd, error) {
	src, mode, err := r.readFile(path)
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
			if text, ok := d.readKey(r, k.File, k.Pos); ok {
				secret, problem, remedy := authSecret(text)
				if problem != "" {
					d.errorf(Pos{File: k.File}, remedy, "%s", problem)
				}
				k.Secret = secret
			}
		}
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// readKey reads a file with one key in its only line.
func (d *diagnostics) readKey(r Reader, path string, at Pos) (string, bool) {
	src, mode, err := r.readFile(path)
	if err != nil {
		if es, ok := errors.AsType[Errors](err); ok {
			d.errs = append(d.errs, es...)
		} else {
			d.errorf(at, "write the key to it or name another file", "the key file cannot be read: %v", err)
		}
		return "", false
	}
	d.checkSecretMode(path, mode, Pos{File: path})
	src = bytes.TrimSuffix(bytes.TrimSuffix(src, []byte("\n")), []byte("\r"))
	if bytes.ContainsAny(src, "\r\n\x00") {
		d.errorf(Pos{File: path}, "write one key in characters on one line, for example 0x and 64 hexadecimal digits", "the key file is not a line of text")
		return "", false
	}
	return string(src), true
}

func (r Reader) readFile(path string) ([]byte, fs.FileMode, error) {
	return r.read(path, func(mode fs.FileMode, owner int) (problem, remedy string) {
		return fileProblem(mode, owner, append([]int{os.Geteuid()}, r.Owners...)...)
	})
}

// read opens path, has checked what it has opened (not the name, which may mean
// another file a moment later), and reads it.
func (r Reader) read(path string, check func(mode fs.FileMode, owner int) (problem, remedy string)) ([]byte, fs.FileMode, error) {
	open := r.Open
	if open == nil {
		open = Open
	}
	f, err := open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, Errors{{Pos{File: path}, "it does not exist", "write it or name another file"}}
	case errors.Is(err, fs.ErrPermission):
		remedy := "give it to root or to the user that runs the daemon"
		if r.Open == nil { // nobody else opens root's
			remedy = remedyOwner(path)
		}
		return nil, 0, Errors{{Pos{File: path}, "it may not be read", remedy}}
	case err != nil:
		return nil, 0, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("stat configuration: %w", err)
	}
	owner := -1
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		owner = int(sys.Uid)
	}
	if problem, remedy := check(st.Mode(), owner); problem != "" {
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

// remedyOwner is for a file that the running user may not read, be it root's.
func remedyOwner(path string) string {
	name := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return fmt.Sprintf("give it to the user that runs the daemon: chown %s %s", name, path)
}

// fileProblem says what is wrong with a file as far as that can be said without
// its content, "" if nothing. It may belong to root and to the others.
func fileProblem(mode fs.FileMode, owner int, others ...int) (problem, remedy string) {
	switch {
	case !mode.IsRegular():
		return "it is not a regular file", "name a regular file"
	case owner != 0 && !slices.Contains(others, owner):
		return fmt.Sprintf("it belongs to user %d", owner), "give it to root or to the user that runs the daemon"
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
