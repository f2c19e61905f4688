package keying

import (
	"strings"
	"testing"
)

// FuzzPluto: what libreswan prints. No connection without ends, no traffic of
// nobody.
func FuzzPluto(f *testing.F) {
	f.Add("000 \"net\": 10.1.0.0/24===192.0.2.1<192.0.2.1>[@gw]...192.0.2.100<192.0.2.100>[@r]===10.2.0.0/24; " +
		"unrouted; eroute owner: #0\n" +
		"000 #3: \"net\":500 STATE_V2_PARENT_I1 (sent IKE_SA_INIT request);\n")
	f.Add("006 #4: \"net\", type=ESP, add_time=1, inBytes=0, outBytes=0\n")
	f.Fuzz(func(t *testing.T, out string) {
		s := parsePluto(out)
		for _, c := range s.conns {
			if c.name == "" || strings.ContainsAny(c.local+c.remote, "<[") {
				t.Errorf("connection %+v", c)
			}
		}
		s.wanted(Plan{})
		for id := range parseTraffic(out) {
			if id.conn == "" {
				t.Error("traffic of nobody")
			}
		}
	})
}

// FuzzIKED: what OpenIKED prints.
func FuzzIKED(f *testing.F) {
	f.Add("iked_sas: 0x55d0 rspi 0x1 ispi 0x2 192.0.2.1:500->192.0.2.100:500<FQDN/r>[] ESTABLISHED i nexthop 0x0 " +
		"pol 0x5\n")
	f.Add("ikev2 \"x\" active tunnel esp inet from 10.1.0.0/24 to 10.2.0.0/24 local 192.0.2.1 peer 192.0.2.100 psk " +
		"0x736563726574\n")
	f.Fuzz(func(t *testing.T, out string) {
		all, up := parseIKED(out)
		n := 0
		for _, k := range up {
			n += k
		}
		if n > all {
			t.Errorf("%d of %d are up", n, all)
		}
		for line := range strings.Lines(ikedEnds(out)) { // all the rest has keys in it
			if len(strings.Fields(line)) != 2 {
				t.Errorf("passed on %q", line)
			}
		}
	})
}
