package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/sync/guard"
	"sasyncd/sync/sadb"
)

// What the sink does to packets is shown in tests/conformance.

func drops(src, dst string) guard.Route {
	return guard.Route{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}
}

func passes(src, dst string) guard.Route {
	r := drops(src, dst)
	r.Pass = true
	return r
}

// kernel is a sink that changes are made to as the kernel makes them: what is there
// already is not added, and what is not there not deleted.
type kernel struct {
	t *testing.T
	sink
}

func (k *kernel) apply(steps [][]change) (changes int) {
	k.t.Helper()
	for _, step := range steps {
		for _, c := range step {
			changes++
			bad := false
			switch c.typ {
			case unix.RTM_NEWRULE, unix.RTM_DELRULE:
				r, ok := decodeRule(c.payload)
				i := slices.Index(k.rules, r)
				if bad = !ok || c.typ == unix.RTM_DELRULE && i < 0 || i >= 0 && c.flags&unix.NLM_F_EXCL != 0; bad {
					break
				}
				if c.typ == unix.RTM_DELRULE {
					k.rules = slices.Delete(k.rules, i, i+1)
				} else {
					k.rules = append(k.rules, r)
				}
			default:
				r, ok := decodeRoute(c.payload)
				i := slices.IndexFunc(k.routes, func(x route) bool { return x.place() == r.place() })
				if bad = !ok || (i < 0) == (c.typ == unix.RTM_DELROUTE); bad {
					break
				}
				if i >= 0 {
					k.routes = slices.Delete(k.routes, i, i+1)
				} else {
					k.routes = append(k.routes, r)
				}
			}
			if bad {
				k.t.Errorf("message %d changes nothing: %x", c.typ, c.payload)
			}
		}
		k.halfDone()
	}
	return changes
}

// halfDone: behind a step no rule leads to a table of which a route is still to come.
func (k *kernel) halfDone() {
	for _, r := range k.rules {
		if !slices.ContainsFunc(k.routes, func(x route) bool { return x.table == r.table }) {
			k.t.Errorf("a rule from %s leads to a table without routes", r.net)
		}
	}
}

// TestSinkSteps: each set of routes is made of the one before, a second time is nothing to
// do, and a source keeps its table.
func TestSinkSteps(t *testing.T) {
	k := &kernel{t: t}
	const device = 7
	for _, step := range []struct {
		name    string
		want    []guard.Route
		changes int // -1: not counted
	}{
		{"two sources", []guard.Route{drops("10.1.0.0/24", "10.2.0.0/24"), drops("fd01::/64", "fd02::/64")}, 4},
		{"an exception and a longer source", []guard.Route{drops("10.1.0.7/32", "10.2.0.0/24"),
			drops("10.1.0.0/24", "10.2.0.0/24"), passes("10.1.0.0/24", "10.2.0.1/32"), drops("fd01::/64", "fd02::/64")}, 3},
		{"kinds change", []guard.Route{passes("10.1.0.7/32", "10.2.0.0/24"),
			drops("10.1.0.0/24", "10.2.0.0/24"), drops("10.1.0.0/24", "10.2.0.1/32"), drops("fd01::/64", "fd02::/64")}, 4},
		{"another destination of IPv6, of which sockets are told by a rule", []guard.Route{
			drops("10.1.0.0/24", "10.2.0.0/24"), drops("10.1.0.0/24", "10.2.0.1/32"), drops("fd01::/64", "fd02::/64"),
			drops("fd01::/64", "fd03::/64")}, 5},
		{"the same without a rule of IPv6 for another reason", []guard.Route{drops("10.1.0.0/24", "10.2.0.0/24"),
			drops("10.1.0.0/24", "10.2.0.1/32"), drops("fd01::/64", "fd02::/64"), drops("fd01::/64", "fd03::/64"),
			drops("fd01::1/128", "fd03::/64")}, 2},
		{"an exception ends", []guard.Route{drops("10.1.0.0/24", "10.2.0.0/24"), drops("fd01::/64", "fd02::/64"),
			passes("fd01::/64", "fd03::/64")}, -1},
		{"another destination", []guard.Route{drops("10.1.0.0/24", "10.3.0.0/24")}, -1},
		{"any source", []guard.Route{drops("0.0.0.0/0", "10.3.0.0/24"), drops("::/0", "::/0")}, -1},
		{"nothing", nil, 4},
	} {
		before := sinkTables(nil, nil)
		for _, r := range k.rules {
			before[r.net] = r.table
		}
		want, leftOut := wantedSink(step.want, k.rules, device)
		if n := k.apply(k.steps(want)); leftOut != 0 || step.changes >= 0 && n != step.changes {
			t.Errorf("%s: %d changes, %d left out, want %d", step.name, n, leftOut, step.changes)
		}
		for _, r := range k.rules {
			if table, ok := before[r.net]; ok && table != r.table {
				t.Errorf("%s: %s has another table", step.name, r.net)
			}
		}
		if len(k.routes) != len(step.want) {
			t.Errorf("%s: %d routes, want %d", step.name, len(k.routes), len(step.want))
		}
		again, _ := wantedSink(step.want, k.rules, device)
		if n := k.apply(k.steps(again)); n != 0 {
			t.Errorf("%s: %d changes when it is there already", step.name, n)
		}
	}
	// A process that ended while a rule was there twice.
	one, _ := wantedSink([]guard.Route{drops("fd01::/64", "fd02::/64")}, nil, device)
	k.apply(k.steps(one))
	k.rules = append(k.rules, k.rules...)
	if n := k.apply(k.steps(one)); n != 1 || len(k.rules) != 1 {
		t.Errorf("%d changes make %d rules of one that was there twice", n, len(k.rules))
	}
}

// TestSinkLimit: the first sources of a family have tables, and the others are counted.
func TestSinkLimit(t *testing.T) {
	var list []guard.Route
	for i := range SinkTables + 3 {
		list = append(list, drops(fmt.Sprintf("10.1.%d.0/24", i), "10.2.0.0/24"),
			drops(fmt.Sprintf("10.1.%d.0/24", i), "10.3.0.0/24"), drops(fmt.Sprintf("fd01:0:0:%x::/64", i), "fd02::/64"))
	}
	want, leftOut := wantedSink(list, nil, 7)
	if leftOut != 6 || len(want.rules) != 2*SinkTables || len(want.routes) != 3*SinkTables {
		t.Errorf("%d left out, %d rules, %d routes", leftOut, len(want.rules), len(want.routes))
	}
	seen := make(map[string]bool)
	for _, r := range want.rules {
		at := fmt.Sprint(sadb.FamilyOf(r.net.Addr()), r.table)
		if seen[at] || r.table < SinkTable || r.table > sinkLastTable {
			t.Errorf("%s has table %d", r.net, r.table)
		}
		seen[at] = true
	}
}
