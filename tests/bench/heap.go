package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
	"sasyncd/tests/bench/result"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/lab"
)

// overflow makes more events than the paused daemon's buffer of 64 MiB holds,
// by the change that costs the kernel least.
func overflow(t lab.T, nd *cluster.Node) {
	t.Helper()
	p := kerneltest.SamplePolicy(sadb.DirOut, "10.250.0.0/16", "10.251.0.0/16", "192.0.2.1", "198.51.100.1")
	for len(p.Templates) < 6 {
		p.Templates = append(p.Templates, p.Templates[0])
	}
	ops := slices.Repeat([]sadb.Op{{Kind: sadb.OpUpdatePolicy, Policy: p}}, 1000)
	for range 120 {
		if err := errors.Join(nd.Kernel.Apply(t.Context(), ops)...); err != nil {
			t.Fatalf("update a policy: %v", err)
		}
	}
}

var gcPattern = regexp.MustCompile(`gc \d+ @.*->(\d+) MB, \d+ MB goal`)

// heap: what is alive after a collection, as the runtime says (GODEBUG=gctrace).
func heap(t lab.T) []result.Line {
	if err := os.Setenv("GODEBUG", "gctrace=1"); err != nil {
		t.Fatalf("%v", err)
	}
	defer os.Unsetenv("GODEBUG")
	c := cluster.New(t, 2, 1)
	m, s := c.Master(), c.Nodes[1]
	m.Apply(sadb.OpAddSA, cluster.SAs(newRand(), huge)...)
	for _, nd := range c.Nodes {
		nd.Extra = "replay interval 5s" // one processor for all has better to do
		nd.Start()
	}
	c.Eventually(180*time.Second, "the standby to be complete", func() bool {
		st, err := s.Ask()
		return err == nil && st.Groups[0].InSync && st.Groups[0].SAs == huge
	})
	profile(m, s)()
	// The runtime collects at least every two minutes.
	before := [2]int{len(collections(m)), len(collections(s))}
	c.Eventually(180*time.Second, "collections", func() bool {
		return len(collections(m)) > before[0] && len(collections(s)) > before[1]
	})
	line := func(who string, nd *cluster.Node, skip int) result.Line {
		list := collections(nd)[skip:]
		mb := slices.Sorted(slices.Values(list))[len(list)/2]
		perSA := mb << 20 / huge
		return result.Line{What: fmt.Sprintf("live heap of the %s for each of %d SAs", who, huge),
			Target: "<= 1024 bytes",
			Figure: fmt.Sprintf("%d bytes", perSA), Verdict: result.Of(perSA <= 1024),
			Note: fmt.Sprintf("%d collections, smallest %d MB, largest %d MB", len(list), slices.Min(list),
				slices.Max(list))}
	}
	return []result.Line{line("master", m, before[0]), line("standby", s, before[1])}
}

// collections are the live heaps of a daemon, in MiB.
func collections(nd *cluster.Node) (list []int) {
	for _, x := range gcPattern.FindAllStringSubmatch(nd.Daemon.Output(), -1) {
		n, err := strconv.Atoi(x[1])
		if err == nil {
			list = append(list, n)
		}
	}
	return list
}
