package check

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/reliability"
)

// Run sets a situation up twice, side by side: for a planned failover, and for a
// power cut. The lab that ends last compares, prints the result and hands it to take,
// as the test around both would wait for all that wait for their turn.
func Run(t *testing.T, it *Situation, stamp reliability.Stamp, take func(*reliability.Prediction)) {
	t.Helper()
	var asked [2]*answers
	var came [2]Outcome
	var ended atomic.Int32
	began := time.Now()
	for i, how := range []struct {
		name string
		make func(*Site) Outcome
	}{{"planned", (*Site).planned}, {"cut", (*Site).cut}} {
		t.Run(how.name, func(t *testing.T) {
			if !it.ESP { // a guest has one processor
				t.Parallel()
			}
			s := newSite(short{t}, it)
			if len(it.Fault) > 0 {
				s.fit()
			}
			for _, do := range it.Fault {
				do(s)
			}
			asked[i] = s.steady()
			s.observe()
			came[i] = how.make(s)
			t.Logf("check said %v\nand the failover (%s): %v", asked[i], how.name, came[i])
			if slices.Contains(asked[i].said, Yes) && !came[i].Worked { // here, so that the logs are kept
				t.Errorf("check says yes, and the failover does not work: %v\n%s", came[i], s.describe())
			}
			if !asked[i].wanted(it) {
				t.Errorf("check says %s, want %s with %q", Combined(asked[i].said), it.Want, it.Code)
			}
			if ended.Add(1) == 2 {
				p := conclude(t, it, asked, came)
				p.Stamp, p.Seconds = stamp, float64(time.Since(began).Milliseconds())/1000
				if err := reliability.Print(os.Stdout, p); err != nil {
					t.Error(err)
				}
				take(p)
			}
		})
	}
}

// conclude compares, and judges what the table explains.
func conclude(t *testing.T, it *Situation, asked [2]*answers, came [2]Outcome) *reliability.Prediction {
	t.Helper()
	p := &reliability.Prediction{Situation: it.Name, Where: it.Where, Gateways: it.gateways(), Election: it.election(),
		ESP:  it.ESP,
		Said: asked[0].said, Codes: asked[0].codes, Planned: came[0].String(), Cut: came[1].String(),
		Verdict: compare(asked, came)}
	if p.Verdict == reliability.FalseNo {
		if p.Why = it.Why; p.Why == "" {
			t.Errorf("check says no, both failovers work, and the table does not say why")
		}
	}
	fmt.Printf("%-70s %-8s %-24s planned: %s; power cut: %s; %s\n", it.Name, it.Where, strings.Join(p.Said, "/"),
		p.Planned, p.Cut, p.Verdict)
	return p
}

// describe is what the kernels say, to explain a failure.
func (s *Site) describe() string {
	var b strings.Builder
	say := func(nd *lab.Node, lines ...string) {
		for _, l := range lines {
			out, err := nd.Try(l)
			fmt.Fprintf(&b, "%s: %s (error %v)\n%s\n", nd.Name, l, err, out)
		}
	}
	for _, m := range s.Members {
		say(m.Node, "ip -br addr", "ip rule", "ip -6 rule")
	}
	for _, nd := range []*lab.Node{s.H1, s.RGW} {
		say(nd, "ip neigh", "ip -s -br link")
	}
	say(s.Fabric(), "bridge link", "bridge fdb show")
	return b.String()
}

// compare holds what was said against what came of it.
func compare(asked [2]*answers, came [2]Outcome) string {
	works := came[0].Worked && came[1].Worked
	yes, no := false, false
	for _, a := range asked {
		for _, said := range a.said {
			yes, no = yes || said == Yes, no || said == No
		}
	}
	switch {
	case yes && !works:
		return reliability.FalseYes
	case no && works:
		return reliability.FalseNo
	}
	return reliability.OK
}

// Few fails the test if too many of the results are an answer of no though
// failovers worked.
func Few(t *testing.T, list []*reliability.Prediction) {
	t.Helper()
	n := 0
	for _, p := range list {
		if p.Verdict == reliability.FalseNo {
			n++
		}
	}
	if 20*n >= len(list) {
		t.Errorf("check says no in %d of %d situations in which failovers work: 5 %% or more", n, len(list))
	}
	t.Logf("%d situations, in %d of them check says no and failovers work", len(list), n)
}

// Stamp says where results come from.
func Stamp(version string) reliability.Stamp {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return reliability.Stamp{Version: version, Kernel: "Linux " + unix.ByteSliceToString(u.Release[:]),
		Date: time.Now().UTC().Format("2006-01-02")}
}

// short is a test whose directories have short names: the address of a unix socket
// has 107 characters.
type short struct{ *testing.T }

var _ lab.T = short{}

// TempDir makes a directory that is removed at the end.
func (s short) TempDir() string {
	s.Helper()
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		s.Fatalf("make a directory: %v", err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
