package vip

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"sasyncd/carp/packet"
)

// What is the same for all addresses of an interface is asked once: the time is that
// of a takeover.
func TestAnnounceAsksOnce(t *testing.T) {
	var as []Address
	for _, ip := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8::3"} {
		as = append(as, Address{IP: netip.MustParseAddr(ip), Index: 3, MAC: packet.MAC{2, 0, 0, 0, 0, 1}})
	}
	as = append(as, Address{IP: netip.MustParseAddr("2001:db8:1::1"), Index: 4})
	asked, sent := map[int]int{}, map[int]int{}
	no := errors.New("network is down")
	n := &Announcer{
		routes: func(index int) bool { asked[index]++; return index == 3 },
		send: func(index int, b []byte) error {
			sent[index]++
			if index == 4 {
				return no
			}
			return nil
		},
	}
	err := n.Announce(as)
	if asked[3] != 1 || asked[4] != 1 || len(asked) != 2 {
		t.Errorf("asked %v, want each interface once", asked)
	}
	if sent[3] != rounds*5 || sent[4] != rounds {
		t.Errorf("sent %v", sent)
	}
	if !errors.Is(err, no) || strings.Count(err.Error(), "2001:db8:1::1") != 1 {
		t.Errorf("error %v", err)
	}
}
