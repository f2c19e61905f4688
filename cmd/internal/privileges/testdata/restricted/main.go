// Command restricted tries what a process may do after privileges.Restrict, on
// threads that there were before and on others, and prints it. It is built
// without cgo, as the daemons are.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"sasyncd/cmd/internal/privileges"
)

func main() {
	dir := os.Args[1]
	at := func(name string) string { return filepath.Join(dir, name) }
	open, err := os.Open(at("secret/file"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	work := make(chan func())
	for range 4 { // threads of their own
		go func() {
			runtime.LockOSThread()
			for f := range work {
				f()
			}
		}()
	}
	version, err := privileges.Restrict([]privileges.Path{
		{Path: at("state"), Access: privileges.Change},
		{Path: at("etc"), Access: privileges.Read},
	})
	if errors.Is(err, privileges.ErrUnrestricted) {
		fmt.Println("unrestricted:", err)
		return
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("landlock", version > 0)
	tries := []struct {
		times int // on as many threads
		name  string
		try   func() error
	}{
		{4, "read etc", func() error { _, err := os.ReadFile(at("etc/conf")); return err }},
		{1, "replace in etc", func() error { return os.Rename(at("etc/conf"), at("etc/other")) }},
		{4, "write etc", func() error { return os.WriteFile(at("etc/conf"), nil, 0o600) }},
		{4, "write state", func() error { return os.WriteFile(at("state/new"), []byte("x"), 0o600) }},
		{1, "rename in state", func() error { return os.Rename(at("state/new"), at("state/file")) }},
		{1, "remove in state", func() error { return os.Remove(at("state/file")) }},
		{4, "read secret", func() error { _, err := os.ReadFile(at("secret/file")); return err }},
		{4, "list secret", func() error { _, err := os.ReadDir(at("secret")); return err }},
		{1, "read what was open", func() error { _, err := open.ReadAt(make([]byte, 1), 0); return err }},
		{1, "execute", func() error { return exec.Command("/bin/true").Run() }},
	}
	for _, x := range tries {
		results := make(chan error, 1)
		for i := range x.times {
			work <- func() { results <- x.try() }
			err := <-results
			fmt.Printf("%d: %s: %s\n", i, x.name, verdict(err))
		}
	}
}

func verdict(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, fs.ErrPermission):
		return "refused"
	}
	return err.Error()
}
