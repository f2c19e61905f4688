package engine

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/scope"
)

// TestLocalIsCounted: a tunnel that ends on the gateway's own address is not replicated,
// and that is known, with its ends as an example.
func TestLocalIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 3)
		defer w.stop()
		time.Sleep(3 * time.Second)
		for _, n := range w.nodes {
			if l := n.glance(t).Local; l != (scope.Local{}) {
				t.Errorf("%+v is said not to be replicated, all is", l)
			}
		}
		own := netip.MustParseAddr("192.0.2.77")
		ops := tunnel(r, 9, false)
		for i := range ops {
			if sa := ops[i].SA; sa != nil {
				c := *sa
				if c.Key.Dst == simVIPs[0] {
					c.Key.Dst = own
				} else {
					c.Src = own
				}
				ops[i].SA = &c
				continue
			}
			p := *ops[i].Policy
			tmpl := p.Templates[0]
			if tmpl.Dst == simVIPs[0] {
				tmpl.Dst = own
			} else {
				tmpl.Src = own
			}
			p.Templates = []sadb.Template{tmpl}
			ops[i].Policy = &p
		}
		w.nodes[0].kernel.foreign(ops...)
		time.Sleep(3 * time.Second)
		got := w.nodes[0].glance(t).Local
		if got.SAs != 2 || got.Policies != 3 || got.Example != "192.0.2.77 > 198.51.100.9" &&
			got.Example != "198.51.100.9 > 192.0.2.77" {
			t.Errorf("%+v, want 2 SAs and 3 policies", got)
		}
		if l := w.nodes[1].glance(t).Local; l != (scope.Local{}) {
			t.Errorf("on the standby: %+v", l)
		}
	})
}

// glance is the engine's status without what takes time.
func (n *simNode) glance(t *testing.T) Status {
	t.Helper()
	s, err := n.engine.Glance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
