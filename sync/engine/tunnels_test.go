package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
)

// TestTunnels: traffic of each direction is that of its tunnel, on the MASTER and on a
// standby, with the time of the last packet; the tunnels that have carried one come first.
func TestTunnels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.stop()
		master, standby := w.nodes[0], w.nodes[1]
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 3 {
			master.kernel.foreign(tunnel(r, i, false)...)
		}
		time.Sleep(3 * time.Second)
		before, err := master.engine.Tunnels(t.Context(), 1000)
		if err != nil || len(before) == 0 {
			t.Fatalf("%d tunnels, error %v", len(before), err)
		}
		began := time.Now()
		master.kernel.traffic(70)
		master.kernel.receives(30)
		time.Sleep(3 * time.Second)
		for what, n := range map[string]*simNode{"MASTER": master, "standby": standby} {
			after, err := n.engine.Tunnels(t.Context(), 1000)
			if err != nil || len(after) != len(before) {
				t.Fatalf("%s: %d tunnels, error %v", what, len(after), err)
			}
			for _, x := range after {
				if !slices.Contains(simVIPs, x.Local) || slices.Contains(simVIPs, x.Remote) {
					t.Errorf("%s: tunnel from %s to %s", what, x.Local, x.Remote)
				}
				if x.PacketsOut%70 != 0 || x.PacketsIn%30 != 0 || x.PacketsOut+x.PacketsIn == 0 ||
					x.Last.Before(began) || x.Last.After(time.Now()) {
					t.Errorf("%s: %+v", what, x)
				}
			}
			if few, err := n.engine.Tunnels(t.Context(), 1); err != nil || len(few) != 1 {
				t.Errorf("%s: %d tunnels of at most 1, error %v", what, len(few), err)
			}
			last, err := n.engine.LastPackets(t.Context())
			if err != nil || len(last) != len(n.kernel.keys()) {
				t.Errorf("%s: the last packet of %d of %d SAs is known, error %v", what, len(last), len(n.kernel.keys()), err)
			}
		}
	})
}

// keys returns those of the SAs that end on a virtual address.
func (k *simKernel) keys() (out []sadb.SAKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, sa := range k.sas {
		if slices.Contains(simVIPs, key.Dst) || slices.Contains(simVIPs, sa.Src) {
			out = append(out, key)
		}
	}
	return out
}
