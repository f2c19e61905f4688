package election

import (
	"flag"
	"os/exec"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// make drill-long takes a minute.
var hogTime = flag.Duration("hogs", 20*time.Second, "how long TestHogs lasts")

// Two busy nodes on a machine with nothing left must not fail over for it, at
// advertisements that leave 150 ms.
func TestHogs(t *testing.T) {
	const hogs = 6
	p := newPair(t)
	p.interval = "50ms"
	a, b := p.gws[0], p.gws[1]
	p.start(a)
	a.await(api.StateMaster, patience)
	p.start(b)
	b.awaitLog("master heard", 4)
	for range hogs {
		d := p.host.Exec("hog", exec.Command("/bin/sh", "-c", "while :; do :; done"))
		d.MayExit()
	}
	wasA, wasB := a.state(), b.state()
	end := time.Now().Add(*hogTime)
	lab.Eventually(t, *hogTime+10*time.Second, "the time has passed", func() bool { return time.Now().After(end) })
	a.same(t, wasA)
	b.same(t, wasB)
	if s := b.state(); s.Seen != wasB.Seen {
		t.Errorf("term %d became %d", wasB.Seen, s.Seen)
	}
}
