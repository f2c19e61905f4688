package nodes

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/wire"
)

// manySAs make a snapshot that takes long enough to be cut short.
const manySAs = 1500

// ballast returns commands that add SAs which carry nothing.
func ballast() []string {
	var lines []string
	for i := range manySAs {
		key := make([]byte, 20)
		rand.Read(key) // never fails
		lines = append(lines, fmt.Sprintf("xfrm state add src %s dst 198.51.100.%d proto esp spi %#x reqid 9 mode "+
			"tunnel aead rfc4106(gcm(aes)) 0x%s 128 replay-window 0",
			lab.VIPOut, i%250+1, 0x10000+i, hex.EncodeToString(key)))
	}
	return lines
}

// Power goes while a snapshot is on its way: first the standby's, twice, and the
// master does not care; then the master's, and the standby carries on with what
// it had before, since nothing of that was thrown away for what never came.
func TestCutDuringSnapshot(t *testing.T) {
	s := newStageWith(t, ballast(), "")
	gw1, gw2 := s.gw[0], s.gw[1]
	link := gw2.port("sync")
	bytes := func() uint64 { return link.Count(wire.In).Bytes }
	whole := bytes() // all it took to get in sync
	// half has something done that leads to a snapshot, and waits for half of it.
	half := func(do func()) {
		t.Helper()
		from := bytes()
		do()
		for start := time.Now(); bytes()-from < whole/2; time.Sleep(time.Millisecond) {
			if time.Since(start) > waitLimit {
				t.Fatalf("no snapshot: %d bytes on the sync link, want half of %d", bytes()-from, whole)
			}
		}
	}
	at := s.now()
	for range 2 {
		gw2.Cut()
		half(gw2.restore)
	}
	gw2.Cut()
	gw2.restore()
	s.waitFit(gw1, gw2)
	s.requireGap(at, steadyGap)
	s.requireClean()

	at = s.now()
	half(func() { s.call(gw2.Machine, "Gateway.Restart", struct{}{}, nil) })
	gw1.Cut()
	st, err := gw2.state()
	t.Logf("when the master's power went the standby was %+v, error %v", st, err)
	gw2.waitMaster()
	s.flowing(restFor)
	s.requireGap(at, unheard+aloneAfter+gapBudget)
	gw1.restore()
	s.waitFit(gw2, gw1)
	s.requireClean()
}

const (
	// aloneAfter is the "alone after" of the gateways: how long one that is not in sync
	// must have been without a reachable member that is MASTER or ahead of it.
	aloneAfter = 10 * time.Second
	// unheard is how long a member that has gone silent counts as reachable: its session
	// is given up that long after it was last heard.
	unheard = 3 * time.Second
)
