package capture

import (
	"net/netip"
	"testing"
	"time"
)

func TestRelayIsNoDuplicate(t *testing.T) {
	const gw1, gw2, rgw = 0, 1, 2
	type seen struct {
		port uint8
		seq  uint32
		hops uint8
		sum  uint32
	}
	sent := seen{rgw, 7, 64, 0xaaaa}
	for name, tc := range map[string]struct {
		packets            []seen
		duplicate, relayed int
	}{
		"new numbers":               {[]seen{sent, {rgw, 8, 64, 0xbbbb}}, 0, 0},
		"routed on by a gateway":    {[]seen{sent, {gw2, 7, 63, 0xaaaa}}, 0, 1},
		"the relay is read first":   {[]seen{{gw2, 7, 63, 0xaaaa}, sent}, 0, 1},
		"sent twice":                {[]seen{sent, sent}, 1, 0},
		"another packet":            {[]seen{{gw1, 7, 64, 0xaaaa}, {gw2, 7, 64, 0xbbbb}}, 1, 0},
		"another packet, from afar": {[]seen{{gw1, 7, 64, 0xaaaa}, {gw2, 7, 63, 0xbbbb}}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			sa := &SA{Src: netip.MustParseAddr("192.0.2.100"), SPI: 1, seen: map[uint64]sender{}}
			for _, p := range tc.packets {
				sa.add(&Packet{At: time.Unix(1, 0), Seq: p.seq, Hops: p.hops, Sum: p.sum}, p.port)
			}
			if sa.Duplicates != tc.duplicate || sa.Relayed != tc.relayed {
				t.Errorf("%d duplicates, %d relayed, want %d and %d", sa.Duplicates, sa.Relayed, tc.duplicate,
					tc.relayed)
			}
			if sa.Packets != len(tc.packets)-tc.relayed {
				t.Errorf("%d packets, want %d", sa.Packets, len(tc.packets)-tc.relayed)
			}
		})
	}
}
