// Package trustedtest gives tests a directory that package trusted accepts, which
// /tmp is not.
package trustedtest

import (
	"errors"
	"fmt"
	"os"

	"sasyncd/kernel/trusted"
)

// Main runs the tests of a package with a temporary directory (TMPDIR) of their
// own. It is the body of a TestMain, and returns the exit code.
func Main(m interface{ Run() int }) int {
	dir, err := Make()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("TMPDIR", dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Make makes a directory, which its caller removes.
func Make() (string, error) {
	var errs []error
	cache, err := os.UserCacheDir()
	if err != nil {
		errs = append(errs, err)
	}
	// Not /run, where Debian does not let programs be executed. The names are short,
	// as the address of a unix socket has 107 characters.
	for _, base := range []string{os.TempDir(), "/var/cache", cache} {
		if base == "" {
			continue
		}
		if err := os.MkdirAll(base, 0o700); err != nil {
			errs = append(errs, err)
			continue
		}
		dir, err := os.MkdirTemp(base, "t")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f, _, _, err := trusted.For(os.Geteuid()).Dir(dir)
		if err == nil {
			f.Close()
			err = os.Chmod(dir, 0o755) // programs of other users have directories below it
		}
		if err == nil {
			return dir, nil
		}
		os.Remove(dir)
		errs = append(errs, err)
	}
	return "", fmt.Errorf("find a directory that only this user can write to: %w", errors.Join(errs...))
}
