package show

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"sasyncd/keying/ipsecconf"
	"sasyncd/sync/sadb"
)

// AllRules writes all policies and SAs, keys included, as a file that
// `control static` reads: what no rule makes, and everything else, is a comment.
func AllRules(w io.Writer, snap *sadb.Snapshot, verbose bool, last Last) error {
	_, err := fmt.Fprintf(w, "# FLOWS:\n%s\n# SAD:\n%s", section(FlowRules(snap.Policies, verbose), "# No flows"),
		section(SARules(snap.SAs, verbose, last), "# No entries"))
	return err
}

// FlowRules returns one rule per policy, sorted.
func FlowRules(policies []*sadb.Policy, verbose bool) []string {
	var out []string
	shown, alone := forwarded(policies)
	for _, p := range shown {
		s, ok := ipsecconf.FlowRule(p)
		switch {
		case !ok:
			s = "# no rule makes this: " + flow(p)
		case alone[p]:
			s += " # its fwd policy is missing"
		}
		if verbose {
			s += comment(flowDetails(p))
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// SARules returns one rule per SA with its keys, by SPI.
func SARules(sas []*sadb.SA, verbose bool, last Last) []string {
	var out []string
	for _, a := range bySPI(sas) {
		if a.Larval() {
			continue
		}
		s, ok := ipsecconf.SARule(a)
		if !ok {
			s = "# no rule makes this: " + sa(a)
		}
		if verbose {
			s += comment(details(a, last))
		}
		out = append(out, s)
	}
	return out
}

func comment(details string) string { return strings.ReplaceAll(details, "\n\t", "\n#\t") }
