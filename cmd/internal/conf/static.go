package conf

import (
	"errors"
	"io/fs"

	"sasyncd/keying/ipsecconf"
)

// LoadStatic reads the file of `control static` and those that it names. All of
// them may hold keys, so that none may be open to anybody but its owner. What is
// wrong is reported as Errors, a failure of the system is not.
func (r Reader) LoadStatic(path string) (ipsecconf.Result, error) {
	var d diagnostics
	res, err := ipsecconf.Load(path, func(path string) ([]byte, error) {
		src, mode, err := r.readNamed(path)
		if err != nil {
			d.add(err)
			return nil, short(err)
		}
		return src, openMode(mode)
	})
	if d.failure != nil {
		return res, d.failure
	}
	return res, static(err)
}

// StaticFiles returns the files that a file of `control static` names, itself
// included, as far as root alone can have written them. What is wrong with them is
// for the reader to report and means less files here; a failure of the system is an
// error.
func StaticFiles(path string) ([]string, error) {
	var d diagnostics
	res, _ := ipsecconf.Load(path, func(path string) ([]byte, error) {
		src, err := ReadRoots(path)
		if err != nil {
			d.add(err)
		}
		return src, err
	})
	return res.Files, d.failure
}

// openMode refuses a file with keys that its group can read.
func openMode(mode fs.FileMode) error {
	var d diagnostics
	d.checkSecretMode("it", mode, Pos{File: "it", Line: 1})
	if len(d.errs) > 0 {
		return errors.New(d.errs[0].Problem + ", " + d.errs[0].Remedy)
	}
	return nil
}

// short leaves out the name of the file, which the reader of a language puts in
// front itself.
func short(err error) error {
	if es, ok := errors.AsType[Errors](err); ok {
		return errors.New(es[0].Problem + ", " + es[0].Remedy)
	}
	return err
}

func static(err error) error {
	var es ipsecconf.Errors
	if !errors.As(err, &es) {
		return err
	}
	out := make(Errors, len(es))
	for i, e := range es {
		out[i] = Error{Pos(e.Pos), e.Problem, e.Remedy}
	}
	return out
}
