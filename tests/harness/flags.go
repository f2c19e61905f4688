package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// flagSet is a test binary's command line as "go test" writes it
// (-test.name=value), taken apart so that it can be rewritten for the guest.
type flagSet struct {
	args []string
}

func (f *flagSet) find(name string) (int, string) {
	for i, a := range f.args {
		v, ok := strings.CutPrefix(strings.TrimLeft(a, "-"), "test."+name+"=")
		if ok && strings.HasPrefix(a, "-") {
			return i, v
		}
	}
	return -1, ""
}

func (f *flagSet) value(name string) string {
	_, v := f.find(name)
	return v
}

// set replaces the value of a flag that is there, or puts it in front: behind
// the first argument that is not a flag nothing is parsed.
func (f *flagSet) set(name, value string) {
	a := "-test." + name + "=" + value
	if i, _ := f.find(name); i >= 0 {
		f.args[i] = a
	} else {
		f.args = append([]string{a}, f.args...)
	}
}

func (f *flagSet) remove(name string) {
	if i, _ := f.find(name); i >= 0 {
		f.args = append(f.args[:i:i], f.args[i+1:]...)
	}
}

// limit returns the value of -test.timeout; ok is false when there is none.
func (f *flagSet) limit() (d time.Duration, ok bool) {
	d, err := time.ParseDuration(f.value("timeout"))
	return d, err == nil && d > 0
}

// uncache keeps "go test" from storing this result. What a drill shows depends
// on the daemons it builds and on the kernel, neither of which the test binary's
// own hash covers. Without the log of used files there is no cache entry.
func (f *flagSet) uncache() { f.remove("testlogfile") }

// output is a file or directory that the guest writes and the host wants elsewhere.
type output struct {
	guest string // below the result directory, on the host
	want  string
	isDir bool
}

// redirectOutputs points all flags that name output files into dir as the guest sees it.
func (f *flagSet) redirectOutputs(hostDir, guestDir string) ([]output, error) {
	outputDir := f.value("outputdir")
	if outputDir == "" {
		var err error
		if outputDir, err = os.Getwd(); err != nil {
			return nil, fmt.Errorf("find working directory: %w", err)
		}
	}
	var outs []output
	for _, name := range []string{"coverprofile", "blockprofile", "cpuprofile", "memprofile", "mutexprofile", "trace"} {
		v := f.value(name)
		if v == "" {
			continue
		}
		if !filepath.IsAbs(v) {
			v = filepath.Join(outputDir, v)
		}
		outs = append(outs, output{guest: filepath.Join(hostDir, name), want: v})
		f.set(name, filepath.Join(guestDir, name))
	}
	if v := f.value("gocoverdir"); v != "" {
		if err := os.MkdirAll(filepath.Join(hostDir, "gocoverdir"), 0o755); err != nil {
			return nil, fmt.Errorf("make coverage directory: %w", err)
		}
		outs = append(outs, output{guest: filepath.Join(hostDir, "gocoverdir"), want: v, isDir: true})
		f.set("gocoverdir", filepath.Join(guestDir, "gocoverdir"))
	}
	if v := f.value("outputdir"); v != "" {
		f.set("outputdir", guestDir)
	}
	return outs, nil
}

// collect copies what the guest wrote to where it was wanted. A guest that was
// killed wrote nothing, which is no further error.
func collect(outs []output) error {
	for _, o := range outs {
		if o.isDir {
			if err := os.CopyFS(o.want, os.DirFS(o.guest)); err != nil {
				return fmt.Errorf("copy coverage data: %w", err)
			}
			continue
		}
		b, err := os.ReadFile(o.guest)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.WriteFile(o.want, b, 0o644)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", filepath.Base(o.guest), err)
		}
	}
	return nil
}
