package peer

import "testing"

// FuzzHost: an address of a peer has a name and a port, or is refused.
func FuzzHost(f *testing.F) {
	f.Add("10.9.0.2:500")
	f.Add("[fe80::1%eth0]:500")
	f.Add("gw2.example.net:0")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := parseHost(s); err == nil && h.port == 0 {
			t.Errorf("%q has no port", s)
		}
	})
}
