package show

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sasyncd/keying/ipsecconf"
	"sasyncd/sync/sadb"
)

const staticFile = `
both = "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff:0x00112233445566778899aabbccddeeff00112233445566778899aabbccddee00"
flow esp from { 10.1.0.0/16 10.2.0.0/16 } to 10.9.0.0/16 peer 203.0.113.7 type use
flow proto tcp from 10.1.0.9 to 10.9.0.9 port 22 peer 203.0.113.7
flow from 10.1.0.53 to any type bypass
flow out from 10.1.0.54 to any type deny
esp from 192.0.2.10 to 203.0.113.7 spi 0x1000:0x1001 \
	authkey $both enckey $both
ah transport from 192.0.2.10 to 203.0.113.8 spi 0x2000:0x2001 auth hmac-sha1 \
	authkey 0x00112233445566778899aabbccddeeff00112233:0x33221100ffeeddccbbaa99887766554433221100
flow ah from 192.0.2.10 to 203.0.113.8
ipcomp from 192.0.2.10 to 203.0.113.9 spi 0x3000:0x3001
flow ipcomp from 10.3.0.0/16 to 10.10.0.0/16 peer 203.0.113.9
`

func load(t *testing.T, text string) *sadb.Snapshot {
	t.Helper()
	r, err := ipsecconf.Load("file", func(string) ([]byte, error) { return []byte(text), nil })
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	snap := &sadb.Snapshot{}
	for _, e := range r.SAs {
		snap.SAs = append(snap.SAs, e.SA)
	}
	for _, f := range r.Flows {
		snap.Policies = append(snap.Policies, f.Policies...)
	}
	return snap
}

// TestRulesAreReadBack: what show prints of a static set with -v -k makes the
// same set, also where something else stands beside it in the kernel.
func TestRulesAreReadBack(t *testing.T) {
	snap := load(t, staticFile)
	for _, a := range snap.SAs { // as it looks when packets have passed
		a.OSeq, a.Bytes, a.Packets, a.Used, a.Age, a.UseAge, a.Tag = 77, 1000, 77, true, 100, 90, 0xe5000001
	}
	foreign := netip.MustParseAddr("198.51.100.1")
	mixed := &sadb.Snapshot{Policies: snap.Policies, SAs: append([]*sadb.SA{
		{Key: sadb.SAKey{Dst: foreign, SPI: 0x4000, Proto: sadb.ProtoESP}, Src: netip.MustParseAddr("192.0.2.10"),
			Mode: sadb.ModeTunnel,
			AEAD: &sadb.Algorithm{Name: "rfc4106(gcm(aes))", Key: sadb.NewSecret(make([]byte, 20)), TruncBits: 128}},
	}, snap.SAs...)}
	for _, verbose := range []bool{false, true} {
		var text strings.Builder
		if err := AllRules(&text, mixed, verbose, nil); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(static(snap), static(load(t, text.String()))); d != "" {
			t.Errorf("verbose %v: read back as something else (-kernel +read):\n%s\n%s", verbose, d, text.String())
		}
		if !strings.Contains(text.String(), "# no rule makes this: esp tunnel from 192.0.2.10 to 198.51.100.1 spi "+
			"0x00004000 enc aes-128-gcm") {
			t.Errorf("the IKE daemon's SA is not shown as a comment:\n%s", text.String())
		}
	}
}

// static describes the configuration of a snapshot, keys included.
func static(s *sadb.Snapshot) map[string]string {
	out := make(map[string]string)
	for _, a := range s.SAs {
		text, ok := ipsecconf.SARule(a)
		if ok {
			out[a.Key.String()] = text
		}
	}
	for _, p := range s.Policies {
		key := p.Key.String()
		text, _ := ipsecconf.FlowRule(p)
		out[key+text] = cmp.Diff(nil, p.Templates) + cmp.Diff(0, p.Priority)
	}
	return out
}

// TestKeysOnlyWhenAskedFor: without -k there are none, and that is said.
func TestKeysOnlyWhenAskedFor(t *testing.T) {
	var text strings.Builder
	if err := All(&text, load(t, staticFile), true, nil); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), "0011223344") || !strings.Contains(text.String(), "Keys are left out") {
		t.Errorf("got\n%s", text.String())
	}
}
