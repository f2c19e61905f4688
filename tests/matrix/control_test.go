package matrix

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/reliability"
)

// TestCheckerDetects breaks invariants by hand: the checker must name them.
func TestCheckerDetects(t *testing.T) {
	for _, tc := range []struct {
		fault fault
		names []string
	}{
		{fault{name: "policies flushed on the master", hold: 300 * time.Millisecond, budget: 5 * second,
			inject: func(c *cell) {
				if err := c.target.Netlink().XfrmPolicyFlush(); err != nil {
					c.t.Fatalf("%v", err)
				}
			},
			heal: func(c *cell) { policies(c, c.target) }},
			[]string{"I12: ", "I5: "}},
		{fault{name: "an SA lost on the standby", hold: 100 * time.Millisecond, budget: 5 * second,
			inject: func(c *cell) {
				for _, sa := range c.dump(c.other).SAs {
					if sa.Key.SPI == c.tunnels[0].SPIIn {
						if err := c.apply(c.other, sadb.OpDeleteSA, sa); err != nil {
							c.t.Fatalf("%v", err)
						}
					}
				}
			}, heal: nothing},
			[]string{"I6: "}},
		{fault{name: "a standby without a fence", hold: 500 * time.Millisecond, budget: 5 * second,
			inject: func(c *cell) {
				c.other.Carpd.Signal(syscall.SIGSTOP) // it would set the fence again
				_, _ = c.other.Try("ip rule del pref 5 from " + lab.VIPOut.String())
				c.other.IP("addr add " + lab.VIPOut.String() + "/32 dev wan0")
				c.H1.IP("route add " + lab.H2Addr.String() + "/32 via " + c.other.InAddr.String())
			},
			heal: func(c *cell) {
				c.H1.IP("route del " + lab.H2Addr.String() + "/32")
				c.other.IP("addr del "+lab.VIPOut.String()+"/32 dev wan0", "rule add pref 5 from "+lab.VIPOut.String()+
					" blackhole protocol 112")
				c.other.Carpd.Signal(syscall.SIGCONT)
				c.RGW.IP("neigh flush to " + lab.VIPOut.String()) // it has learnt the wrong one's
				// The standby's numbers are far ahead, and the remote refuses the master's now.
				c.negotiate(c.target)
			}},
			[]string{"I3: "}},
	} {
		t.Run(tc.fault.name, func(t *testing.T) {
			r := newRow(t, tc.fault)
			r.t.quiet = true
			res := r.run(moment{steady, func(c *cell) { c.once() }})
			t.Log(res.Reason)
			if res.Verdict != reliability.Failed {
				t.Fatalf("the cell is %s", res.Verdict)
			}
			for _, name := range tc.names {
				if !strings.Contains(res.Reason, name) {
					t.Errorf("what failed does not name %s", name)
				}
			}
		})
	}
}

// policies installs the tunnels' policies anew.
func policies(c *cell, s *side) {
	var lines []string
	for _, tn := range c.tunnels {
		lines = append(lines, fmt.Sprintf("xfrm policy update dir out src %s dst %s tmpl src %s dst %s proto esp "+
			"reqid %d mode tunnel",
			tn.LocalNet, tn.RemoteNet, tn.Local, tn.Remote, tn.ReqID))
		for _, dir := range []string{"in", "fwd"} {
			lines = append(lines, fmt.Sprintf("xfrm policy update dir %s src %s dst %s tmpl src %s dst %s proto esp "+
				"reqid %d mode tunnel",
				dir, tn.RemoteNet, tn.LocalNet, tn.Remote, tn.Local, tn.ReqID))
		}
	}
	s.IP(lines...)
}
