package ike

import (
	"strings"
	"testing"

	"sasyncd/tests/harness/lab"
)

// The connection for xfrm interfaces comes up, and what it makes belongs to the
// interface. How traffic takes to that, and fails over, is in tests/routed, whose
// kernel has such interfaces.
func TestRouteBasedExample(t *testing.T) {
	const secrets = "secrets {\n\tike-site {\n\t\tid-a = gateway.example\n\t\tid-b = site.example\n\t\tsecret = " +
		"\"correct horse battery staple\"\n\t}\n}\n"
	p, gw1, _ := bare(t)
	gw1.SetVIPs()
	own := example(t, "route-based", "swanctl.conf")
	theirs := strings.NewReplacer(
		lab.RGWOut.String(), lab.VIPOut.String(), lab.VIPOut.String(), lab.RGWOut.String(), // the longer one first
		"gateway.example", "site.example", "site.example", "gateway.example",
		"if_id_in = 42", "", "if_id_out = 42", "",
		"local_ts = 0.0.0.0/0", "local_ts = "+lab.RemNet.String(), "remote_ts = 0.0.0.0/0", "remote_ts = "+
			lab.LANNet.String(),
	).Replace(own)
	c, r := newCharon(t, gw1.Node, "c1", own+secrets), newCharon(t, p.RGW, "cf", theirs+secrets)
	c.start()
	r.start()
	c.swanctl("--initiate --child net --timeout 20")
	for what, want := range map[string]int{"state": 2, "policy": 3} {
		if got := gw1.Run("ip xfrm " + what); strings.Count(got, "if_id 0x2a") != want {
			t.Errorf("gw1 has not %d with if_id 42 in its %s table:\n%s", want, what, got)
		}
	}
}
