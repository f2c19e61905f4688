package link

import (
	"net/netip"
	"slices"
	"testing"
)

// Every machine has a loopback interface.
func TestNodeAddrs(t *testing.T) {
	own := netip.MustParseAddr("127.0.0.1")
	for _, name := range []string{"", "lo"} {
		list, err := NodeAddrs(t.Context(), name)
		if err != nil || !slices.Contains(list, own) {
			t.Errorf("addresses of %q: %v, %v", name, list, err)
		}
	}
	if list, err := NodeAddrs(t.Context(), "nosuch0"); err == nil {
		t.Errorf("addresses of an interface that is not there: %v", list)
	}
}
