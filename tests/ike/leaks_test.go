package ike

import (
	"testing"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/leaks"
)

// TestLeaksIKE is what IKE daemons do to policies on a gateway without sasyncd: nobody
// puts them back. With the leak guard nothing leaves in plaintext, and the daemon still
// negotiates. The rows need a kernel with nf_tables: make drill-leaks.
func TestLeaksIKE(t *testing.T) {
	for _, row := range []struct {
		name string
		set  func(t *testing.T) leaks.Setting
		do   func(t *testing.T, s *leaks.Stage)
	}{
		{"strongSwan stops and starts, as an upgrade has it", negotiated, func(t *testing.T, s *leaks.Stage) {
			c := charons[s]
			c.proc.Term(limit)
			s.Gone(100)
			c.start()
			for _, child := range []string{"site4", "site6"} {
				c.swanctl("--initiate --child " + child)
			}
			s.Flowing(20)
		}},
		{"OpenIKED starts", nil, func(t *testing.T, s *leaks.Stage) {
			noMoreModules(t)
			newIKED(t, s.Gateway.Node).boot(t)
			s.Gone(100)
		}},
		{"libreswan 5 starts by hand", nil, func(t *testing.T, s *leaks.Stage) {
			p := newPluto(t, s.Gateway.Node, "trixie")
			p.byHand = true
			p.boot(t)
			p.await(t)
			s.Gone(100)
		}},
	} {
		for _, guard := range []string{"no", "auto"} {
			t.Run(row.name+"/guard "+guard, func(t *testing.T) {
				var set leaks.Setting
				if row.set != nil {
					set = row.set(t)
				}
				s := leaks.New(t, guard, set)
				s.Sasyncd.Kill()
				row.do(t, s)
				s.Result(row.name, false)
			})
		}
	}
}

// charons are those of the gateways of stages.
var charons = make(map[*leaks.Stage]*charon)

// negotiated has strongSwan negotiate the tunnels at both ends.
func negotiated(t *testing.T) leaks.Setting {
	return leaks.Setting{Before: func(s *leaks.Stage) {
		for _, nd := range []*lab.Node{s.Gateway.Node, s.RGW} {
			nd.IP("xfrm state flush", "xfrm policy flush")
		}
		r := newCharon(t, s.RGW, "cf", example(t, "strongswan", "remote", "swanctl.conf"))
		c := newCharon(t, s.Gateway.Node, "c1", example(t, "strongswan", "gateway", "swanctl.conf"))
		charons[s] = c
		r.start()
		c.start()
		for _, child := range []string{"site4", "site6"} {
			c.swanctl("--initiate --child " + child)
		}
	}}
}
