package link

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
)

func TestAddresses(t *testing.T) {
	head := func(family, bits, flags, scope byte, link uint32) []byte {
		return native.AppendUint32([]byte{family, bits, flags, scope}, link)
	}
	v4 := head(unix.AF_INET, 24, 0x80, 0, 3)
	v4 = netlink.AppendAttr(v4, unix.IFA_ADDRESS, []byte{10, 0, 0, 9}) // the peer
	v4 = netlink.AppendAttr(v4, unix.IFA_LOCAL, []byte{10, 1, 0, 2})
	v4 = netlink.AppendAttr32(v4, unix.IFA_FLAGS, 0x280)
	a, ok := decodeAddress(v4)
	if want := (Address{Prefix: netip.MustParsePrefix("10.1.0.2/24"), Link: 3, Flags: 0x280, Valid: NoLease}); !ok ||
		a != want {
		t.Errorf("%+v, want %+v", a, want)
	}
	v6 := head(unix.AF_INET6, 128, 0, unix.RT_SCOPE_HOST, 1)
	v6 = netlink.AppendAttr(v6, unix.IFA_ADDRESS, netip.IPv6Loopback().AsSlice())
	v6 = netlink.AppendAttr(v6, unix.IFA_CACHEINFO, []byte{1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	a, ok = decodeAddress(v6)
	if !ok || !a.Loopback || a.Valid != native.Uint32([]byte{2, 0, 0, 0}) || a.Prefix.String() != "::1/128" {
		t.Errorf("%+v", a)
	}
	if _, ok := decodeAddress(head(unix.AF_INET, 33, 0, 0, 1)); ok {
		t.Error("an address without address was accepted")
	}
}
