package vip

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestSettle: a kernel is waited for until it routes all addresses, and a slow one no
// longer than the limit, which the addresses of IPv4 wait for too.
func TestSettle(t *testing.T) {
	four, six, local := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("fe80::200:5eff:fe00:20a")
	as := []Address{{IP: local, Index: 2}, {IP: four, Index: 2}, {IP: six, Index: 3}}
	for name, tt := range map[string]struct {
		routed map[netip.Addr]time.Duration
		took   time.Duration
		late   []netip.Addr
	}{
		"at once": {map[netip.Addr]time.Duration{}, 0, nil},
		"a busy kernel": {map[netip.Addr]time.Duration{local: 600 * time.Millisecond}, 600 * time.Millisecond,
			nil},
		"a slow kernel": {map[netip.Addr]time.Duration{local: 3 * time.Second}, time.Second, []netip.Addr{local}},
		"one that is slower": {map[netip.Addr]time.Duration{local: 3 * time.Second, six: time.Hour}, time.Second,
			[]netip.Addr{local, six}},
		"IPv4 is not asked": {map[netip.Addr]time.Duration{four: time.Hour}, 0, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			late := settle(as, localLimit, func(a Address) bool { return time.Since(began) >= tt.routed[a.IP] },
				func() { time.Sleep(localLook) }) // virtual time, as the pause that the program makes
			if took := time.Since(began); took != tt.took {
				t.Errorf("%s: took %v, want %v", name, took, tt.took)
			}
			if len(late) != len(tt.late) {
				t.Fatalf("%s: late are %v, want %v", name, late, tt.late)
			}
			for i, a := range late {
				if a.IP != tt.late[i] {
					t.Errorf("%s: late are %v, want %v", name, late, tt.late)
				}
			}
		})
	}
}
