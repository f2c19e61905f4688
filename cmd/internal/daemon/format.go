package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	udiff "github.com/aymanbagabas/go-udiff"
	"github.com/spf13/pflag"
)

// VerbFormat is the command of both daemons that writes a configuration in normal form.
const VerbFormat = "fmt"

// Formatter returns a configuration in normal form: text whole, and text and src as
// they may be shown, without secrets. An error is for the user to read.
type Formatter func(file string, src []byte) (text, shown, source []byte, err error)

// Format does what `fmt [-dw] [file]` asks for, args without the verb, and returns the
// exit code. file is - for a filter from stdin to stdout, and f.Config if there is none.
// A file on stdout, and the difference of -d, have secrets as their length; the filter
// passes them on, and -w writes them to where they were.
func Format(program string, f Flags, args []string, format Formatter, stdin io.Reader, stdout, stderr io.Writer) int {
	var diff, write bool
	set := newFlagSet(program)
	set.BoolVarP(&diff, "diff", "d", false, "")
	set.BoolVarP(&write, "write", "w", false, "")
	err := set.Parse(args)
	path := f.Config
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(stdout, formatUsage+"\n", program)
		return ExitOK
	case err != nil:
	case set.NArg() > 1:
		err = errors.New("name one file")
	case set.NArg() == 1:
		path = set.Arg(0)
	}
	filter := path == "-"
	if err == nil && filter && write {
		err = errors.New("-w needs a file")
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n"+formatUsage+"\n", program, err, program)
		return ExitUsage
	}
	var src []byte
	if filter {
		path = "standard input"
		src, err = io.ReadAll(stdin)
	} else {
		src, err = os.ReadFile(path)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", program, err)
		return ExitFailure
	}
	text, shown, source, err := format(path, src)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return ExitConfig
	}
	same := string(text) == string(src)
	code := ExitOK
	switch {
	case diff && !same:
		_, err = io.WriteString(stdout, udiff.Unified(path, path+" (formatted)", string(source), string(shown)))
		if !write {
			code = ExitFailure
		}
	case diff, write:
	case filter:
		_, err = stdout.Write(text)
	default:
		_, err = stdout.Write(shown)
	}
	if err == nil && write && !same {
		err = replaceFile(path, text)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", program, err)
		return ExitFailure
	}
	return code
}

const formatUsage = `usage: %[1]s [-c file] fmt [-dw] [file | -]
  -d  show what would change, and exit with 1 if anything would
  -w  write the file
%[1]s(8) has the details.`

// replaceFile replaces the content of a regular file at once, and keeps its owner and
// mode. At no time can others read what they could not read before.
func replaceFile(path string, text []byte) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !st.Mode().IsRegular() || !ok || sys.Nlink > 1 {
		return &fs.PathError{Op: "write", Path: path, Err: errors.New("it is a link, or no regular file: name the file " +
			"itself")}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil && (int(sys.Uid) != os.Geteuid() || int(sys.Gid) != os.Getegid()) {
		err = f.Chown(int(sys.Uid), int(sys.Gid))
	}
	if err == nil {
		err = f.Chmod(st.Mode().Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
