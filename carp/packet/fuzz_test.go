package packet

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
)

// FuzzFrame: what parses can be written again and means the same.
func FuzzFrame(f *testing.F) {
	for _, c := range advertisements(f) {
		f.Add(c.frame)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var one, two Frame
		if one.Parse(b) != nil {
			return
		}
		out, err := one.Append(nil)
		if err != nil {
			t.Fatalf("append of %+v: %v", one, err)
		}
		if err := two.Parse(out); err != nil || !reflect.DeepEqual(one, two) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, two, one)
		}
	})
}

// FuzzVRRP: same for messages, whatever the family of the packet.
func FuzzVRRP(f *testing.F) {
	for _, c := range advertisements(f) {
		var fr Frame
		if fr.Parse(c.frame) == nil && fr.Proto == Protocol {
			f.Add(fr.Payload, fr.SrcIP.Is6())
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, six bool) {
		src, dst := netip.MustParseAddr("10.66.0.1"), Group4()
		if six {
			src, dst = netip.MustParseAddr("fe80::ff:fe00:1"), Group6()
		}
		var one, two VRRP
		if one.Parse(b, src, dst) != nil {
			return
		}
		out, err := one.Append(nil, src, dst)
		if err != nil {
			t.Fatalf("append of %+v: %v", one, err)
		}
		if err := two.Parse(out, src, dst); err != nil || !reflect.DeepEqual(one, two) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, two, one)
		}
	})
}

// FuzzCARP: what parses is written again byte for byte but for the checksum,
// of which ones' complement has two zeros.
func FuzzCARP(f *testing.F) {
	for _, c := range advertisements(f) {
		var fr Frame
		if fr.Parse(c.frame) == nil && KindOf(fr.Payload) == KindCARP {
			f.Add(fr.Payload)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c CARP
		if c.Parse(b) != nil {
			return
		}
		out := c.Append(nil)
		if !bytes.Equal(out[:6], b[:6]) || !bytes.Equal(out[8:], b[8:]) {
			t.Fatalf("\n got %x\nwant %x", out, b)
		}
		var ah AH
		if ah.Parse(b) == nil {
			ah.Append(nil)
		}
		var tr Trailer
		_ = tr.Parse(c.Trailer)
	})
}

// FuzzAH: whatever is read can be written again.
func FuzzAH(f *testing.F) {
	f.Add((&AH{Next: 112, SPI: 1, Seq: 2, ICV: make([]byte, 12), Payload: []byte("x")}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a, again AH
		if a.Parse(b) != nil {
			return
		}
		out := a.Append(nil)
		if err := again.Parse(out); err != nil || again.Next != a.Next || again.SPI != a.SPI || again.Seq != a.Seq ||
			!bytes.Equal(again.ICV, a.ICV) || !bytes.Equal(again.Payload, a.Payload) {
			t.Errorf("%x became %x (%v)", b, out, err)
		}
	})
}

// FuzzTrailer: what is read can be written again, and is not believed unsigned.
func FuzzTrailer(f *testing.F) {
	key := NewTrailerKey([]byte("0123456789abcdef"))
	src := netip.MustParseAddr("192.0.2.1")
	signed := Trailer{KeyID: 1, Seq: 7}
	key.Sign(&signed, []byte("message"), src)
	f.Add(signed.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var x Trailer
		if x.Parse(b) != nil {
			return
		}
		var again Trailer
		if err := again.Parse(x.Append(nil)); err != nil || again != x {
			t.Errorf("%x became %+v (%v)", b, again, err)
		}
		if x.Digest != signed.Digest && key.Verify(&x, []byte("message"), src) {
			t.Errorf("believed %x", b)
		}
	})
}
