package track

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzEcho: an answer is from whom it was asked, and for us.
func FuzzEcho(f *testing.F) {
	v4 := append(append([]byte{0x45}, make([]byte, 19)...), reply4, 0, 0, 0, 0, 7, 0, 1)
	f.Add(v4, false)
	f.Add([]byte{reply6, 0, 0, 0, 0, 7, 0, 1}, true)
	f.Fuzz(func(t *testing.T, b []byte, six bool) {
		a4, a6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
		var from unix.Sockaddr = &unix.SockaddrInet4{Addr: a4.As4()}
		addr, other := a4, a6
		if six {
			from, addr, other = &unix.SockaddrInet6{Addr: a6.As16()}, a6, a4
		}
		answers(b, from, addr, 7)
		if _, ok := answers(b, from, other, 7); ok {
			t.Error("an answer of another address")
		}
	})
}
