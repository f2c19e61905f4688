package link

import (
	"testing"

	"sasyncd/kernel/netlink"
)

func FuzzDecodeLink(f *testing.F) {
	f.Add(netlink.AppendAttr(make([]byte, sizeLink), attrLinkName, []byte("eth0\x00")))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if l, ok := decodeLink(payload); ok && l.Name == "" {
			t.Error("an interface without name")
		}
	})
}

func FuzzDecodeAddress(f *testing.F) {
	f.Add(netlink.AppendAttr(make([]byte, 8), 1, []byte{10, 0, 0, 9}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if a, ok := decodeAddress(payload); ok && !a.Prefix.IsValid() {
			t.Error("an address that is none")
		}
	})
}
