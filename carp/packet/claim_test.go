package packet

import (
	"net/netip"
	"testing"
)

// TestParseClaim: what announces an address claims it, what asks for one claims the
// asker's own, and a packet from beyond a router claims nothing.
func TestParseClaim(t *testing.T) {
	mac := MAC{2, 0, 0, 0, 0, 1}
	v4, v6, own4, own6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("fe80::9")
	far := AppendUnsolicitedNA(nil, mac, v6, true)
	far[14+7] = 64
	short := AppendGratuitousARP(nil, mac, v4)
	probe := AppendARPRequest(nil, mac, netip.IPv4Unspecified(), v4) // RFC 5227
	for name, tt := range map[string]struct {
		frame []byte
		ip    netip.Addr // none: nothing is claimed
	}{
		"gratuitous ARP":           {AppendGratuitousARP(nil, mac, v4), v4},
		"unsolicited NA":           {AppendUnsolicitedNA(nil, mac, v6, true), v6},
		"question by ARP":          {AppendARPRequest(nil, mac, own4, v4), own4},
		"ARP probe":                {probe, netip.Addr{}},
		"neighbour solicitation":   {AppendSolicitation(nil, mac, own6, v6), netip.Addr{}},
		"NA from beyond a router":  {far, netip.Addr{}},
		"NA of an IPv4-only frame": {append(short[:12:12], 0x86, 0xdd), netip.Addr{}},
		"nothing":                  {nil, netip.Addr{}},
	} {
		ip, got, ok := ParseClaim(tt.frame)
		if ok != tt.ip.IsValid() || ok && (ip != tt.ip || got != mac) {
			t.Errorf("%s: %v at %v, %v", name, ip, got, ok)
		}
		for n := range tt.frame {
			ParseClaim(tt.frame[:n]) // no part of it panics
		}
	}
}

func FuzzParseClaim(f *testing.F) {
	f.Add(AppendGratuitousARP(nil, MAC{2}, netip.MustParseAddr("192.0.2.1")))
	f.Add(AppendUnsolicitedNA(nil, MAC{2}, netip.MustParseAddr("2001:db8::1"), true))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ip, mac, ok := ParseClaim(b); ok && (ip.IsUnspecified() || mac.IsMulticast()) {
			t.Errorf("%v at %v", ip, mac)
		}
	})
}
