package daemon

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is the version of a package, which its build sets with the linker
// (-X); "" for other builds.
var release string

// Version describes the build: version of the module, revision and date of the
// sources where the build recorded them, compiler, platform.
func Version(program string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return fmt.Sprintf("%s unknown (%s %s/%s)", program, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}
	return describe(program, info)
}

func describe(program string, info *debug.BuildInfo) string {
	version, revision, when, dirty := build(info)
	for _, s := range []*string{&revision, &when} {
		if *s != "" {
			*s = " " + *s
		}
	}
	return fmt.Sprintf("%s %s%s%s%s (%s %s/%s)", program, version, revision, dirty, when, info.GoVersion, runtime.GOOS,
		runtime.GOARCH)
}

// build returns what the build recorded; "" where it did not.
func build(info *debug.BuildInfo) (version, revision, when, dirty string) {
	version = release
	if version == "" {
		version = info.Main.Version
	}
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.time":
			when = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	return version, revision, when, dirty
}
