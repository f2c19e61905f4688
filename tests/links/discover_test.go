package links

import (
	"strings"
	"testing"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// TestDiscover has three gateways with one file: `peer discover` and the first of them.
// Each finds the two others, and says by whom. A fourth that has another key is found
// by nobody.
func TestDiscover(t *testing.T) {
	t.Parallel()
	p := scenario.NewPlain(t, 4)
	p.Peers = func(*scenario.Member) string { return "peer discover " + p.Gateways[0].SyncAddr.String() + "\n" }
	stranger := p.Members[3]
	p.Members, stranger.Key = p.Members[:3], scenario.NewKey()
	p.Start()
	gw1, gw2, gw3 := p.Members[0], p.Members[1], p.Members[2]
	line := func(m *scenario.Member, by string) string {
		return m.SyncAddr.String() + " NODE connected found by " + by
	}
	for _, x := range []struct {
		on   *scenario.Member
		want []string
	}{
		{gw1, []string{line(gw2, "its own connection"), line(gw3, "its own connection")}},
		{gw2, []string{gw1.SyncAddr.String() + " NODE connected", "NODE connected found by "}},
		{gw3, []string{gw1.SyncAddr.String() + " NODE connected", "NODE connected found by "}},
	} {
		var out string
		lab.Eventually(t, patience, x.on.Name+" to have found the others", func() bool {
			out = connections(t, x.on)
			for _, w := range x.want {
				if !strings.Contains(out, w) {
					return false
				}
			}
			return strings.Count(out, "NODE connected") == 2 && !strings.Contains(out, "not connected")
		})
		t.Logf("%s: %s", x.on.Name, out)
	}

	stranger.StartSasyncd()
	lab.Eventually(t, patience, "the one with another key to be refused", func() bool {
		return strings.Contains(gw1.Sasyncd.Output(), "reason=key")
	})
	for _, m := range p.Members {
		if out := connections(t, m); strings.Contains(out, stranger.SyncAddr.String()) {
			t.Errorf("%s: %s", m.Name, out)
		}
	}
}

// connections is what sasyncctl says of the peers, on one line, with node ids and
// figures of sessions left out.
func connections(t *testing.T, m *scenario.Member) string {
	t.Helper()
	out, _ := says(t, m, "peers")
	var words []string
	for i, f := 0, strings.Fields(out); i < len(f); i++ {
		switch {
		case len(f[i]) == 8 && strings.Trim(f[i], "0123456789abcdef") == "":
			words = append(words, "NODE")
			i++ // the kernel
		case f[i] == "connected" && i+1 < len(f) && f[i+1] == "for":
			words = append(words, "connected")
			i += 5 // for TIME, rtt NUMBER ms
		default:
			words = append(words, f[i])
		}
	}
	return strings.Join(words, " ")
}
