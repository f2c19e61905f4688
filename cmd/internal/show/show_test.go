package show

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/sync/sadb"
)

// TestAll compares with the two flows and two SAs that the format's
// description shows, and checks that no key is in the output.
func TestAll(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.20"), netip.MustParseAddr("192.0.2.10")
	remote, local := netip.MustParsePrefix("10.20.0.0/24"), netip.MustParsePrefix("10.10.0.0/24")
	tmpl := func(src, dst netip.Addr) []sadb.Template {
		return []sadb.Template{{Src: src, Dst: dst, Proto: sadb.ProtoESP, Family: sadb.FamilyIPv4,
			Mode: sadb.ModeTunnel}}
	}
	pol := func(d sadb.Direction, src, dst netip.Prefix, t []sadb.Template) *sadb.Policy {
		return &sadb.Policy{Key: sadb.PolicyKey{Dir: d, Selector: sadb.SelectorOf(src, dst)}, Templates: t}
	}
	key := strings.Repeat("K", 36)
	snap := &sadb.Snapshot{
		Policies: []*sadb.Policy{
			pol(sadb.DirOut, local, remote, tmpl(b, a)), pol(sadb.DirIn, remote, local, tmpl(a, b)),
			pol(sadb.DirFwd, remote, local, tmpl(a, b)),
			{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: sadb.SelectorOf(netip.MustParsePrefix("fd00::/16"),
				netip.MustParsePrefix("fd01::1/128"))}, Action: sadb.ActionBlock},
		},
		SAs: []*sadb.SA{
			{Key: sadb.SAKey{Dst: a, SPI: 0xff0000a1, Proto: sadb.ProtoESP}, Src: b, Mode: sadb.ModeTunnel,
				AEAD: &sadb.Algorithm{Name: "rfc4106(gcm(aes))", Key: sadb.NewSecret([]byte(key)), TruncBits: 128}},
			{Key: sadb.SAKey{Dst: b, SPI: 0x1a2b3c4d, Proto: sadb.ProtoESP}, Src: a, Mode: sadb.ModeTunnel,
				Auth:  &sadb.Algorithm{Name: "hmac(sha256)", Key: sadb.NewSecret([]byte(key[:32])), TruncBits: 128},
				Crypt: &sadb.Algorithm{Name: "cbc(aes)", Key: sadb.NewSecret([]byte(key[:32]))}},
		},
	}
	var out strings.Builder
	if err := All(&out, snap, false, nil); err != nil {
		t.Fatal(err)
	}
	want := `FLOWS:
flow esp in from 10.20.0.0/24 to 10.10.0.0/24 peer 192.0.2.20 type require
flow esp out from 10.10.0.0/24 to 10.20.0.0/24 peer 192.0.2.20 type require
flow esp out from fd00::/16 to fd01::1 type deny

SAD:
esp tunnel from 192.0.2.20 to 192.0.2.10 spi 0x1a2b3c4d auth hmac-sha2-256 enc aes-256
esp tunnel from 192.0.2.10 to 192.0.2.20 spi 0xff0000a1 enc aes-256-gcm
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	if err := All(&out, snap, true, Last{snap.SAs[0].Key: 3 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "KKKK") || strings.Contains(out.String(), "4b4b4b4b") {
		t.Errorf("key in %s", out.String())
	}
	if strings.Count(out.String(), "\n\tlast_packet: 3 s ago\n") != 1 {
		t.Errorf("of one SA it is known when it carried a packet: %s", out.String())
	}
	out.Reset()
	if err := All(&out, &sadb.Snapshot{}, false, nil); err != nil ||
		out.String() != "FLOWS:\nNo flows\n\nSAD:\nNo entries\n" {
		t.Errorf("empty: %q %v", out.String(), err)
	}
}
