package trusted

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may lead through, as in the kernel
// (path_resolution(7)).
const maxLinks = 40

// step is a directory on the way, open.
type step struct {
	fd   int
	name string // without symbolic links
}

// walker is on its way along a path.
type walker struct {
	rule  Rule
	path  string // what was asked for
	steps []step // from the root directory to where it is
	rest  []string
	links int
}

// start returns a walker at the root directory. Its caller closes it.
func (r Rule) start(path string) (*walker, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	w := &walker{rule: r, path: path}
	// Abs has resolved ".." as text, which is another place behind a symbolic link.
	if filepath.IsAbs(path) {
		abs = path
	}
	w.rest = strings.Split(abs, "/")
	return w, w.root()
}

func (w *walker) close() {
	for _, s := range w.steps {
		unix.Close(s.fd)
	}
	w.steps = nil
}

func (w *walker) at() step { return w.steps[len(w.steps)-1] }

// root goes to the root directory.
func (w *walker) root() error {
	w.close()
	fd, err := open(unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return w.failed("/", err)
	}
	return w.enter(fd, "/")
}

// enter goes on from a directory, if it is trusted.
func (w *walker) enter(fd int, name string) error {
	w.steps = append(w.steps, step{fd, name})
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return w.failed(name, err)
	}
	return w.rule.dir(w.path, name, &st)
}

func (w *walker) failed(name string, err error) error {
	return &fs.PathError{Op: "open", Path: name, Err: err}
}

// next goes to what the path names next. It returns a descriptor where that is no
// directory, else -1. The descriptor is for its caller.
func (w *walker) next() (fd int, name string, err error) {
	part := w.rest[0]
	w.rest = w.rest[1:]
	switch part {
	case "", ".":
		return -1, "", nil
	case "..":
		if last := len(w.steps) - 1; last > 0 {
			unix.Close(w.steps[last].fd)
			w.steps = w.steps[:last]
		}
		return -1, "", nil
	}
	name = filepath.Join(w.at().name, part)
	fd, err = open(w.at().fd, part, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		w.rest = append([]string{part}, w.rest...)
		return -1, name, w.failed(name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, name, w.failed(name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return -1, name, w.enter(fd, name)
	case unix.S_IFLNK:
		err := w.follow(fd, name)
		unix.Close(fd)
		return -1, name, err
	}
	return fd, name, nil
}

// follow replaces a symbolic link by its target.
func (w *walker) follow(fd int, name string) error {
	if w.links++; w.links > maxLinks {
		return w.failed(name, unix.ELOOP)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return w.failed(name, err)
	}
	target := string(buf[:n])
	w.rest = append(strings.Split(target, "/"), w.rest...)
	if filepath.IsAbs(target) {
		return w.root()
	}
	return nil
}

// find walks to the file at the end of a path and judges it. The descriptor is
// one of O_PATH, for its caller; dir stays open until the walker is closed.
func (w *walker) find() (fd int, name string, st *unix.Stat_t, err error) {
	for len(w.rest) > 0 {
		fd, name, err := w.next()
		if err != nil {
			return -1, name, nil, err
		}
		if fd < 0 {
			continue
		}
		st := new(unix.Stat_t)
		err = unix.Fstat(fd, st)
		switch {
		case err != nil:
			err = w.failed(name, err)
		case len(w.rest) > 0:
			err = w.failed(name, unix.ENOTDIR)
		default:
			err = w.rule.file(w.path, name, st)
		}
		if err != nil {
			unix.Close(fd)
			return -1, name, nil, err
		}
		return fd, name, st, nil
	}
	return -1, w.path, nil, &Error{Path: w.path, At: w.path, Problem: "it is not a regular file",
		Remedy: "name a regular file",
		File:   true, Mode: fs.ModeDir}
}

// Open opens a file for reading. Errors of what is not trusted are of type
// *Error, others are of type *fs.PathError about the component that failed.
func (r Rule) Open(path string) (*os.File, error) {
	w, err := r.start(path)
	if w != nil {
		defer w.close()
	}
	if err != nil {
		return nil, err
	}
	fd, name, _, err := w.find()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	// O_NONBLOCK: a regular file may have a lease or a mandatory lock (fcntl(2)).
	in, err := open(unix.AT_FDCWD, proc(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, w.failed(name, err)
	}
	return os.NewFile(uintptr(in), path), nil
}

// Dir opens with O_PATH the directory that a path names, or the deepest one on the way to it
// that exists. All of them are trusted. real is where it is, without symbolic
// links, and missing is what follows: nil where the directory itself exists.
func (r Rule) Dir(path string) (dir *os.File, real string, missing []string, err error) {
	w, err := r.start(path)
	if w != nil {
		defer w.close()
	}
	for err == nil && len(w.rest) > 0 {
		var fd int
		var name string
		fd, name, err = w.next()
		if fd >= 0 {
			unix.Close(fd)
			err = w.failed(name, unix.ENOTDIR)
		}
		if isAbsent(err) {
			for _, part := range w.rest {
				switch part {
				case "", ".":
				case "..":
					return nil, "", nil, err // of a directory that is not there
				default:
					missing = append(missing, part)
				}
			}
			err, w.rest = nil, nil
		}
	}
	if err != nil {
		return nil, "", nil, err
	}
	last := w.at()
	w.steps = w.steps[:len(w.steps)-1]
	return os.NewFile(uintptr(last.fd), last.name), last.name, missing, nil
}

// open is openat(2), repeated where a signal interrupts it.
func open(at int, path string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(at, path, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
