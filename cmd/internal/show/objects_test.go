package show

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sasyncd/sync/sadb"
)

// TestObjects: what -j shows has the fields of the kernel's items, each fwd policy
// too, and keys only if asked for.
func TestObjects(t *testing.T) {
	list := tunnel()
	list[2].Templates[0].Optional = true
	list[2].Key.Selector.Proto, list[2].Key.Selector.DstPort, list[2].Key.Selector.DstPortMask = 6, 22, 0xffff
	flows := FlowObjects(list)
	if len(flows) != 3 {
		t.Fatalf("%d flows of 3 policies", len(flows))
	}
	fwd, in := flows[0], flows[1]
	if fwd.Direction != "fwd" || fwd.Type != "use" || fwd.Protocol != "tcp" || fwd.ToPort != "22" ||
		fwd.FromPort != "" || fwd.Templates[0].Level != "use" {
		t.Errorf("fwd: %+v", fwd)
	}
	if in.Direction != "in" || in.Type != "require" || in.From != "10.2.0.0/16" || in.To != "10.1.0.0/16" ||
		in.Priority != 375423 ||
		in.Templates[0].Src != "198.51.100.1" || in.Templates[0].Dst != "192.0.2.1" ||
		in.Templates[0].Mode != "tunnel" || in.Templates[0].Reqid != 1 {
		t.Errorf("in: %+v", in)
	}
	s := load(t, staticFile).SAs
	s[0].OSeq, s[0].Bytes, s[0].Age = 77, 1000, 100
	s[0].Limits.HardBytes, s[0].Limits.HardAdd = 5000, 3600
	for _, keys := range []bool{false, true} {
		b, err := json.Marshal(SAObjects(s, keys, Last{s[0].Key: 3 * time.Second}))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if strings.Contains(text, "0011223344") != keys {
			t.Errorf("keys asked for: %v: %s", keys, text)
		}
		for _, want := range []string{`"spi":"0x00001000"`, `"seq_out":77`, `"bytes":1000`, `"age_seconds":100`, `"last_packet_age_seconds":3`,
			`"hard":{"bytes":5000,"add_seconds":3600}`,
			`"auth":"hmac-sha2-256"`, `"enc":"aes-256"`} {
			if !strings.Contains(text, want) {
				t.Errorf("lacks %s: %s", want, text)
			}
		}
	}
	if got := FlowObjects(append(list, &sadb.Policy{Socket: true})); len(got) != 3 {
		t.Errorf("a policy of a socket is shown: %+v", got)
	}
}
