package vip

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
)

// What is done with the kernel needs privilege: tests/election does it.

func TestAddress(t *testing.T) {
	for _, tc := range []struct {
		ip               string
		lease            time.Duration
		ones             int
		flags            int
		valid, preferred int
	}{
		{"192.0.2.1", 2 * time.Second, 32, unix.IFA_F_NOPREFIXROUTE, 2, 2},
		{"192.0.2.1", 2100 * time.Millisecond, 32, unix.IFA_F_NOPREFIXROUTE, 3, 3},
		{"2001:db8::1", 2 * time.Second, 128, unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD, 2, 0},
		{"fe80::1", time.Millisecond, 128, unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD, 1, 0},
	} {
		a := address(netip.MustParseAddr(tc.ip), tc.lease)
		ones, _ := a.Mask.Size()
		if a.IP.String() != tc.ip || ones != tc.ones || a.Flags != tc.flags || a.ValidLft != tc.valid ||
			a.PreferedLft != tc.preferred {
			t.Errorf("%s for %v: %v flags %#x, valid %d, preferred %d", tc.ip, tc.lease, a.IPNet, a.Flags, a.ValidLft,
				a.PreferedLft)
		}
	}
}

// The name of a macvlan must fit, whatever the index, and be of one MAC only.
func TestMACName(t *testing.T) {
	seen := map[string]bool{}
	for _, index := range []int{1, 12, 1<<31 - 1} {
		for _, six := range []bool{false, true} {
			for id := range 256 {
				name := MACName(index, packet.VirtualMAC(uint8(id), six))
				if len(name) >= unix.IFNAMSIZ && index < 1_000_000 || seen[name] {
					t.Errorf("name %q", name)
				}
				seen[name] = true
			}
		}
	}
}
