package election

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
)

// Each way to speak VRRP: elect, stay, take over.
func TestProtocols(t *testing.T) {
	for name, tc := range map[string]struct {
		instances func(g *gateway) string
		down      time.Duration
	}{
		"unicast": {func(g *gateway) string {
			other := 3 - g.n
			return fmt.Sprintf(`
vrrp inside  { carpdev in0;  vrid 10; priority %d; address 10.1.0.1/32; unicast { 10.1.0.1%d }; group gate }
vrrp outside { carpdev out0; vrid 11; priority %d; address 10.3.0.1/32; address fd00:3::1/128; unicast { 10.3.0.1%d fd00:3::1%d }; group gate }`,
				g.priority, other, g.priority, other, other)
		}, takeover},
		"version 2 with password": {func(g *gateway) string {
			return fmt.Sprintf("vrrp inside { carpdev in0; version 2; vrid 10; priority %d; pass \"sekret12\"; "+
				"address 10.1.0.1/32; group gate }", g.priority)
		}, 3*time.Second + 2*time.Second},
		"message checksum, 50 ms": {func(g *gateway) string {
			return fmt.Sprintf("vrrp inside { carpdev in0; vrid 10; priority %d; interval 50ms; checksum message; "+
				"address 10.1.0.1/32; group gate }", g.priority)
		}, time.Second},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			p := newPair(t)
			p.instances = tc.instances
			a, b := p.gws[0], p.gws[1]
			p.start(a)
			a.await(api.StateMaster, patience)
			p.start(b)
			b.awaitLog("master heard", 1)
			b.awaitFor(tc.down)
			if b.state().State != api.StateBackup || a.state().State != api.StateMaster {
				t.Fatal("two masters")
			}
			if rx := b.state().Instances[0].Routers[0]; rx.Dropped != 0 || rx.Received == 0 {
				t.Errorf("received %d, dropped %d", rx.Received, rx.Dropped)
			}
			a.d.Kill()
			b.await(api.StateMaster, tc.down)
		})
	}
}

// Terms outlive the process.
func TestTermOutlivesRestart(t *testing.T) {
	t.Parallel()
	p, a, b := run(t)
	b.d.Term(5 * time.Second)
	first := a.state().Term
	a.d.Term(5 * time.Second)
	p.start(a)
	a.await(api.StateMaster, patience)
	if s := a.state(); s.Term <= first {
		t.Errorf("term %d after %d", s.Term, first)
	}
}
