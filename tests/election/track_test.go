package election

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// Each kind of track makes a lesser master, with an id that names it, for as
// long as something is wrong.
func TestTracks(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := p.gws[0]
	file, good := filepath.Join(g.Dir(), "load"), filepath.Join(g.Dir(), "good")
	script := g.WriteFile("probe", "#!/bin/sh\n[ -e "+good+" ]\n")
	g.Run("chmod 700 " + script)
	g.WriteFile("good", "")
	dmz := p.net.Switch("dmz")
	port := g.Plug(dmz, "dmz0", "10.4.0.1/24")
	p.instances = func(g *gateway) string {
		return fmt.Sprintf(`vrrp inside { carpdev in0; vrid 10; priority %d; address 10.1.0.1/32; group gate }
track link dmz0 group gate demote 10
track file %q group gate demote 20
track exec %q group gate demote 40 interval 100ms
track ping 10.1.0.100 group gate demote 80 interval 100ms fail 3
`, g.priority, file, script)
	}
	p.start(g)
	g.await(api.StateMaster, patience)
	demotion := func(want int, ids ...string) {
		t.Helper()
		lab.Eventually(t, patience, fmt.Sprintf("demoted by %d", want),
			func() bool { return g.state().Demotion == want })
		var have []string
		for _, d := range g.state().Demotions {
			have = append(have, d.ID)
		}
		for _, id := range ids {
			if !strings.Contains(strings.Join(have, " "), id) {
				t.Errorf("no demotion %s among %v", id, have)
			}
		}
	}
	demotion(0)
	port.Pull()
	demotion(10, "track:link:dmz0")
	g.WriteFile("load", "5\n")
	demotion(15, "track:file:"+file)
	g.Run("rm " + good)
	demotion(55, "track:exec:"+script)
	p.host.IP("link set eth0 down")
	demotion(135, "track:address:10.1.0.100")
	// What people withdraw does not withdraw what is tracked.
	if out, code := g.ctl("undemote", "gate"); code != 0 {
		t.Errorf("undemote: %d %s", code, out)
	}
	demotion(135)
	p.host.IP("link set eth0 up")
	g.WriteFile("good", "")
	g.Run("rm " + file)
	port.Replug()
	demotion(0)
	if s := g.state(); s.State != api.StateMaster || s.Term != 1 {
		t.Errorf("state %+v", s)
	}
}
