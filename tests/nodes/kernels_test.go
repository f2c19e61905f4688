package nodes

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/lab"
)

var other = flag.String("other", "", "directory into which another user-mode-linux is unpacked, for TestTwoKernels")

// Kernel is what a gateway's kernel is and knows.
type Kernel struct {
	Release  string
	Features sadb.Features
}

// Kernel asks the gateway's kernel.
func (s *Gateway) Kernel(_ struct{}, out *Kernel) error {
	return s.withTables(func(k *xfrm.Kernel) error {
		*out = Kernel{xfrm.Release(), k.Features()}
		return nil
	})
}

func (s *Gateway) withTables(f func(*xfrm.Kernel) error) error {
	var k *xfrm.Kernel
	if err := s.node.Do(func() (err error) { k, err = xfrm.New(xfrm.Options{}); return err }); err != nil {
		return err
	}
	return errors.Join(f(k), k.Close())
}

// Direct makes the gateway's SAs anew as IKE daemons make them where the kernel has directions:
// each with its own, and outbound ones without a window. Their counters stay.
func (s *Gateway) Direct(_ struct{}, n *int) error {
	return s.withTables(func(k *xfrm.Kernel) error {
		ctx := context.Background()
		snap, err := k.Dump(ctx)
		if err != nil {
			return err
		}
		var ops []sadb.Op
		for _, sa := range snap.SAs {
			c := *sa
			c.KernelDir, c.Tag = sadb.DirIn, 0
			if sa.Src == lab.VIPOut || sa.Src == lab.VIPOut6 {
				c.KernelDir, c.Window, c.BitmapLen, c.Bitmap, c.Seq = sadb.DirOut, 0, 0, nil, 0
				c.OSeq += 1000 // beyond what is sent meanwhile
			}
			ops = append(ops, sadb.Op{Kind: sadb.OpDeleteSA, SA: sa}, sadb.Op{Kind: sadb.OpAddSA, SA: &c})
		}
		*n = len(snap.SAs)
		return errors.Join(k.Apply(ctx, ops)...)
	})
}

// Directed answers with how many SAs of the gateway have a direction.
func (s *Gateway) Directed(_ struct{}, n *int) error {
	return s.withTables(func(k *xfrm.Kernel) error {
		snap, err := k.Dump(context.Background())
		if err != nil {
			return err
		}
		for _, sa := range snap.SAs {
			if sa.KernelDir != sadb.DirUnknown {
				*n++
			}
		}
		return nil
	})
}

// TestTwoKernels has two gateways of which one runs the kernel that -other names. The SAs of the
// newer one have directions, which the older one may not know. The older one holds all of them and
// does not make them anew at each reading; the power of either is cut, and the traffic goes on.
func TestTwoKernels(t *testing.T) {
	program := filepath.Join(*other, "usr/bin/linux.uml")
	if _, err := os.Stat(program); *other == "" || err != nil {
		t.Fatalf("a second kernel is missing (%v): run make drill-kernels", err)
	}
	s := newStageOn(t, nil, "", program, filepath.Join(*other, "usr/lib/uml/modules"))
	newer, older := s.gw[0], s.gw[1]
	knows := func(g *gateway) (k Kernel) {
		s.call(g.Machine, "Gateway.Kernel", struct{}{}, &k)
		return k
	}
	a, b := knows(newer), knows(older)
	if a.Release == b.Release {
		t.Fatalf("both kernels are %s", a.Release)
	}
	if !a.Features.Direction {
		newer, older, a, b = older, newer, b, a
		older.Cut()
		newer.waitMaster()
		older.restore()
		s.waitFit(newer, older)
	}
	if !a.Features.Direction {
		t.Fatalf("neither %s nor %s has directions", a.Release, b.Release)
	}
	t.Logf("MASTER %s: %+v; standby %s: %+v", a.Release, a.Features, b.Release, b.Features)
	n, have := 0, 0
	s.call(newer.Machine, "Gateway.Direct", struct{}{}, &n)
	s.waitFit(newer, older)
	s.flowing(restFor)
	s.call(newer.Machine, "Gateway.Directed", struct{}{}, &have)
	if n != 2*len(s.tunnels) || have != n {
		t.Fatalf("%d SAs on the MASTER, %d with a direction; want %d", n, have, 2*len(s.tunnels))
	}
	s.requireHeld(older, n, b.Features)

	at := s.now()
	newer.Cut()
	older.waitMaster()
	s.flowing(restFor)
	s.requireGap(at, gapBudget)
	newer.restore()
	s.waitFit(older, newer)
	s.requireHeld(newer, n, b.Features) // as the older one publishes them

	at = s.now()
	older.Cut()
	newer.waitMaster()
	s.flowing(restFor)
	s.requireGap(at, gapBudget)
	older.restore()
	s.waitFit(newer, older)
	s.requireClean()
}

// audits is longer than two audits of a standby, which makes what differs anew.
const audits = 5 * time.Second

// requireHeld wants a standby to hold n SAs, with directions if they are known, none refused, and
// no repair while nothing happens.
func (s *stage) requireHeld(g *gateway, n int, f sadb.Features) {
	s.t.Helper()
	before, err := g.state()
	if err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(audits) // nothing is to happen
	after, err := g.state()
	if err != nil {
		s.t.Fatal(err)
	}
	if after.Refused != 0 || after.SAs != n || after.Repairs != before.Repairs {
		s.t.Errorf("%s holds %d SAs, want %d; %d are refused, %d operations repaired what did not change", g.name,
			after.SAs, n, after.Refused, after.Repairs-before.Repairs)
	}
	directed := 0
	s.call(g.Machine, "Gateway.Directed", struct{}{}, &directed)
	want := 0
	if f.Direction {
		want = n
	}
	if directed != want {
		s.t.Errorf("%s has %d SAs with a direction, want %d", g.name, directed, want)
	}
}
