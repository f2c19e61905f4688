package cluster

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// Dump reads the node's tables.
func (nd *Node) Dump() *sadb.Snapshot {
	nd.c.t.Helper()
	snap, err := nd.Kernel.Dump(nd.c.t.Context())
	if err != nil {
		nd.c.t.Fatalf("dump %s: %v", nd.Name, err)
	}
	return snap
}

// Apply changes the node's tables as an IKE daemon does; the test ends when
// one operation fails.
func (nd *Node) Apply(kind sadb.OpKind, sas ...*sadb.SA) {
	nd.c.t.Helper()
	ops := make([]sadb.Op, len(sas))
	for i, sa := range sas {
		ops[i] = sadb.Op{Kind: kind, SA: sa}
	}
	for i, err := range nd.Kernel.Apply(nd.c.t.Context(), ops) {
		if err != nil {
			nd.c.t.Fatalf("%s: %v %s: %v", nd.Name, kind, sas[i].Key, err)
		}
	}
}

// SAs makes tunnel SAs with random SPIs, each with another, addresses and keys: the
// kernel's hashes are plain sums, which orderly ones would all put into one bucket.
func SAs(r *rand.Rand, n int) []*sadb.SA {
	list := make([]*sadb.SA, n)
	taken := make(map[uint32]bool, n)
	for i := range list {
		spi := 0x1000 + r.Uint32N(1<<31)
		for taken[spi] { // of 20,000, two are alike in 9 of 100 cases
			spi = 0x1000 + r.Uint32N(1<<31)
		}
		taken[spi] = true
		sa := kerneltest.SampleESN("192.0.2.1", "198.51.100.1", spi)
		sa.Key.Dst, sa.Src = sadbtest.Addr4(r), sadbtest.Addr4(r)
		sa.Reqid = 1 + r.Uint32N(1<<30)
		sa.AEAD.Key = sadb.NewSecret(sadbtest.Bytes(r, 20))
		sa.OSeq = r.Uint64N(1 << 33)
		list[i] = sa
	}
	return list
}

// hardGrace is what a standby adds to hard limits in time, in seconds, so that
// the master's own expiry comes first.
const hardGrace = 5

// Digests returns the configuration of what is to be replicated, by name. With
// grace the limits are what a standby makes of them.
func Digests(snap *sadb.Snapshot, grace bool) map[string]wire.Sum {
	m := make(map[string]wire.Sum, len(snap.SAs)+len(snap.Policies))
	for _, sa := range snap.SAs {
		if !sa.Replicable() {
			continue
		}
		c := *sa
		c.Limits = c.Limits.WithoutSoft()
		if grace && c.Limits.HardAdd != 0 {
			c.Limits.HardAdd += hardGrace
		}
		if grace && c.Limits.HardUse != 0 {
			c.Limits.HardUse += hardGrace
		}
		m[sa.Key.String()] = wire.SADigest(&c)
	}
	for _, p := range snap.Policies {
		if !p.Socket {
			m[policyName(p)] = wire.PolicyDigest(p)
		}
	}
	return m
}

// policyName is unique, which the name that `ip xfrm` gives is not.
func policyName(p *sadb.Policy) string {
	return fmt.Sprintf("%s %x", p.Key, wire.PolicyKeyDigest(&p.Key))
}

// Differences names what the standby has not, or otherwise, or too much.
func Differences(master, standby *sadb.Snapshot) (list []string) {
	want, have := Digests(master, true), Digests(standby, false)
	for k, d := range want {
		if h, ok := have[k]; !ok {
			list = append(list, "missing: "+k)
		} else if h != d {
			list = append(list, "differs: "+k)
		}
	}
	for k := range have {
		if _, ok := want[k]; !ok {
			list = append(list, "too much: "+k)
		}
	}
	slices.Sort(list)
	return list
}

// WaitEqual waits until the tables of all given nodes are those of the master,
// which they must be within the limit, and returns how long that took, without
// the time in which the machine stood still.
func (c *Cluster) WaitEqual(limit time.Duration, nodes ...*Node) time.Duration {
	c.t.Helper()
	limit = harness.Scaled(limit)
	w := lab.NewWatch()
	for _, nd := range nodes {
		for {
			diff := Differences(c.Master().Dump(), nd.Dump())
			if len(diff) == 0 {
				break
			}
			if w.Elapsed() > limit {
				c.t.Fatalf("%s differs from the master in %d items after %v:\n%s", nd.Name, len(diff), limit,
					strings.Join(diff[:min(10, len(diff))], "\n"))
				return limit
			}
			w.Sleep(20 * time.Millisecond)
		}
	}
	return w.Elapsed()
}

// Tags are the marks of all SAs and policies: one that was made anew has another.
func Tags(snap *sadb.Snapshot) map[string]uint32 {
	m := make(map[string]uint32)
	for _, sa := range snap.SAs {
		m[sa.Key.String()] = sa.Tag
	}
	for _, p := range snap.Policies {
		m[policyName(p)] = p.Index
	}
	return m
}

// What two gateways need not have in common, in the text of `ip -s xfrm`.
var (
	volatile = regexp.MustCompile(`(?m)^\tanti-replay context: .*\n|^\tlifetime current:\n.*\n.*\n|^\tstats:\n.*\n|^\t seq-hi .*\n| index \d+| seq 0x\d+|^\t lastused .*\n|^\tlastused .*\n`)
	soft     = regexp.MustCompile(`soft [^,]*, `)
	hardTime = regexp.MustCompile(`(expire (?:add|use): )hard (\d+)\(sec\)`)
	// The kernel's own SAs for IPComp tunnels.
	helper = regexp.MustCompile(`(?m)^\tproto (4|41|ipencap|ipv6) `)
	// A larval SA has no algorithm.
	algorithm = regexp.MustCompile(`(?m)^\t(enc|auth|auth-trunc|aead|comp) `)
	bitmap    = regexp.MustCompile(`(?m)^\t( [0-9a-f]{8})+ ?\n`)
)

// Text is `ip -s xfrm state` and `ip -s xfrm policy`, sorted, without what two
// gateways need not have in common: counters, windows' bits, dates, statistics,
// tags, soft limits, and what is not replicated. A master's hard limits in time
// get the grace that a standby adds, and its larval SAs are left out.
func (nd *Node) Text(master bool) string {
	nd.c.t.Helper()
	states := nd.Run("ip -s xfrm state")
	states = bitmap.ReplaceAllString(volatile.ReplaceAllString(states, ""), "")
	states = soft.ReplaceAllString(states, "")
	if master {
		states = hardTime.ReplaceAllStringFunc(states, func(s string) string {
			m := hardTime.FindStringSubmatch(s)
			n, err := strconv.Atoi(m[2])
			if err != nil || n == 0 {
				return s
			}
			return fmt.Sprintf("%shard %d(sec)", m[1], n+hardGrace)
		})
	}
	policies := volatile.ReplaceAllString(nd.Run("ip -s xfrm policy"), "")
	var items []string
	for _, item := range append(split(states), split(policies)...) {
		// IPComp tunnels bring helpers, which each kernel makes itself, and
		// sockets have policies.
		if helper.MatchString(item) || strings.Contains(item, "\tsocket ") {
			continue
		}
		if master && strings.Contains(item, "proto ") && !algorithm.MatchString(item) && !strings.Contains(item,
			"\tdir ") {
			continue
		}
		items = append(items, item)
	}
	slices.Sort(items)
	return strings.Join(items, "")
}

// split cuts the output of `ip xfrm` into items, which begin at column 0.
func split(s string) (items []string) {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "\t") && b.Len() > 0 {
			items = append(items, b.String())
			b.Reset()
		}
		b.WriteString(line)
	}
	if b.Len() > 0 {
		items = append(items, b.String())
	}
	return items
}

// FirstDifference returns the first lines in which two texts differ.
func FirstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			from := max(0, i-4)
			return fmt.Sprintf("line %d:\n%s\nand\n%s", i+1, strings.Join(x[from:min(len(x), i+4)], "\n"),
				strings.Join(y[from:min(len(y), i+4)], "\n"))
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// Eventually is lab.Eventually.
func (c *Cluster) Eventually(limit time.Duration, what string, cond func() bool) time.Duration {
	c.t.Helper()
	return lab.Eventually(c.t, limit, what, cond)
}
