package trusted

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Program is a program that was found trusted, open until Close.
type Program struct {
	path string
	file *os.File // of O_PATH
	dir  *os.File // of O_PATH; nil where the program is native
	name string   // in dir
}

// Program opens a program to be run. Errors are those of Open. The program must
// have a permission to execute.
func (r Rule) Program(path string) (*Program, error) {
	w, err := r.start(path)
	if w != nil {
		defer w.close()
	}
	if err != nil {
		return nil, err
	}
	fd, name, st, err := w.find()
	if err != nil {
		return nil, err
	}
	p := &Program{path: path, file: os.NewFile(uintptr(fd), path)}
	if st.Mode&0o111 == 0 {
		p.Close()
		return nil, &Error{Path: path, At: name, Problem: fmt.Sprintf("it has mode %04o and cannot be executed",
			st.Mode&0o7777),
			Remedy: "chmod 755 " + quote(name), File: true, Owner: int(st.Uid), Mode: fs.FileMode(st.Mode & 0o777)}
	}
	if native(fd) {
		return p, nil
	}
	dir, err := open(w.at().fd, ".", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		p.Close()
		return nil, w.failed(name, err)
	}
	p.dir, p.name = os.NewFile(uintptr(dir), w.at().name), filepath.Base(name)
	return p, nil
}

// native reports whether the kernel executes a file itself (elf(5)). What may be
// executed but not read is native: an interpreter could not read it either.
func native(fd int) bool {
	in, err := open(unix.AT_FDCWD, proc(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return true
	}
	defer unix.Close(in)
	const magic = "\x7fELF"
	var head [len(magic)]byte
	n, err := unix.Pread(in, head[:], 0)
	return err != nil || string(head[:n]) == magic
}

// Command returns a command that runs the program, which must stay open until the
// command has been started. It sets Path, Args and ExtraFiles.
func (p *Program) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, proc(int(p.file.Fd())), args...)
	cmd.Args[0] = p.path
	if p.dir != nil {
		// The interpreter opens the script, so it inherits the directory, which
		// becomes the first descriptor behind the standard streams.
		cmd.ExtraFiles = []*os.File{p.dir}
		cmd.Path = proc(3) + "/" + p.name
	}
	return cmd
}

// Close closes the program.
func (p *Program) Close() error {
	err := p.file.Close()
	if p.dir != nil {
		err = errors.Join(err, p.dir.Close())
	}
	return err
}

// proc names an open descriptor of the running process (proc(5)).
func proc(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// isAbsent reports whether a component does not exist.
func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
