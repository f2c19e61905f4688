package members

import (
	"encoding/json"
	"testing"
	"unicode"

	"github.com/hashicorp/memberlist"
)

// TestClaimsArePrintable: what a member says of itself does not steer the terminal of
// who asks for the peers.
func TestClaimsArePrintable(t *testing.T) {
	for what, c := range map[string]Claim{
		"host":    {Host: "gw2\x1b]0;owned\x07"},
		"address": {Host: "gw2", Addrs: []string{"10.9.0.2:500", "\u009b31m"}},
		"group":   {Host: "gw2", Roles: map[string]string{"out\u202eside": "MASTER"}},
		"role":    {Host: "gw2", Roles: map[string]string{"outside": "MAS\rTER"}},
		"newline": {Host: "gw2\ngw3"},
	} {
		meta, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		m := idle(Config{Node: id(1)})
		delegate{m}.NotifyJoin(&memberlist.Node{Name: id(2).String(), Meta: meta})
		known := m.Known()
		if len(known) != 1 || m.Refused() != 1 {
			t.Fatalf("%s: known %v, refused %d", what, known, m.Refused())
		}
		kept := known[0].Claim
		all := []string{kept.Host}
		all = append(all, kept.Addrs...)
		for g, r := range kept.Roles {
			all = append(all, g, r)
		}
		for _, s := range all {
			for _, r := range s {
				if !unicode.IsPrint(r) {
					t.Errorf("%s: %q is kept", what, s)
				}
			}
		}
	}
}
