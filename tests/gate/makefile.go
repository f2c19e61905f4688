package gate

import (
	"regexp"
	"slices"
	"strings"
)

var (
	rule    = regexp.MustCompile(`(?m)^([a-z][a-z0-9 -]*):($|[^=])`)
	setting = regexp.MustCompile(`(?m)^([A-Z][A-Z0-9_]*)\s*\?=`)
)

// Targets returns the targets of a Makefile, in its order.
func Targets(makefile string) []string {
	var list []string
	for _, m := range rule.FindAllStringSubmatch(makefile, -1) {
		list = append(list, strings.Fields(m[1])...)
	}
	return list
}

// IsGate reports whether a target has to be in the list of gates. "drill-ground" runs
// gates of the list.
func IsGate(target string) bool {
	if target == "drill-ground" {
		return false
	}
	return target == "drill" || strings.HasPrefix(target, "drill-") ||
		slices.Contains([]string{"test", "demo", "fresh", "mutants", "bench", "scale", "soak", "fuzz", "check-packages"}, target)
}

// Environment returns the environment for a gate of a Makefile, and those of its
// variables that the entry names. A gate runs as its target is written, so what would
// shorten it, or make another run of it, is left out: variables that the Makefile
// takes from the environment, those of make itself, and those that drills read. How
// slow the machine is (SASYNCD_SLOW) stays and is named, and GO, the tool, stays.
func Environment(makefile string, env []string) (kept, settings []string) {
	drop := []string{"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "GOFLAGS", "OLD", "SCREENSHOTS"}
	for _, m := range setting.FindAllStringSubmatch(makefile, -1) {
		if m[1] != "GO" {
			drop = append(drop, m[1])
		}
	}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case name == "SASYNCD_SLOW":
			if value != "" {
				settings = append(settings, v)
			}
		case slices.Contains(drop, name), strings.HasPrefix(name, "SASYNCD_"), strings.HasPrefix(name, "HARNESS_"),
			strings.HasPrefix(name, "BENCH_"):
			continue
		}
		kept = append(kept, v)
	}
	return kept, settings
}
