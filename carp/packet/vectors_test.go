package packet

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func vector(t *testing.T, name string) []byte {
	t.Helper()
	for _, f := range lines(t, "testdata/computed-vectors.txt", "|") {
		if strings.TrimSpace(f[0]) == name {
			b, err := hex.DecodeString(strings.TrimSpace(f[len(f)-1]))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("no vector %s", name)
	return nil
}

func TestCARPVectors(t *testing.T) {
	const counter = 0x0102030405060708
	dual := addrs("192.0.2.10", "192.0.2.9", "2001:db8::10", "2001:db8::9", "fe80::200:5eff:fe00:107")
	tests := []struct {
		name, pass string
		msg        CARP
		vips       []netip.Addr
		linkLocal  bool
	}{
		{"carp-ucarp", "love", CARP{ID: 42, AdvBase: 1}, addrs("10.66.0.100"), false},
		{"carp-openbsd", "mekmitasdigoat", CARP{ID: 7, AdvBase: 1, AdvSkew: 100, Demotion: 1},
			addrs("192.0.2.10", "192.0.2.9"), false},
		{"carp-openbsd-dual", "mekmitasdigoat", CARP{ID: 7, AdvBase: 1, AdvSkew: 100, Demotion: 1}, dual, false},
		{"carp-freebsd-dual", "mekmitasdigoat", CARP{ID: 7, AdvBase: 1, AdvSkew: 100}, dual, true},
		{"carp-bowout", "love", CARP{ID: 42, AdvBase: 255, AdvSkew: 255}, addrs("10.66.0.100"), false},
		{"carp-fast", "love", CARP{ID: 42}, addrs("10.66.0.100"), false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			key := NewCARPKey([]byte(tc.pass), tc.msg.ID, tc.vips, tc.linkLocal)
			m := tc.msg
			m.Counter = counter
			m.Digest = key.Digest(counter)
			if got, want := m.Append(nil), vector(t, tc.name); !bytes.Equal(got, want) {
				t.Errorf("\n got %x\nwant %x", got, want)
			}
		})
	}
}

// The BSDs hash IPv4 addresses in ascending order as numbers, then IPv6 addresses
// in ascending order of their bytes, each once, whatever the order in which they
// were configured. The addresses here come in another order in every other way to
// sort them: as little-endian or signed numbers, as text, families mixed.
func TestCARPOrder(t *testing.T) {
	vips := addrs("fd00::1", "200.0.0.1", "2001:db8:0:1::1", "10.0.0.2", "fe80::1:2", "9.0.0.10", "2001:db8::ff",
		"10.0.0.2", "::ffff:9.0.0.10")
	var only6 []netip.Addr
	for _, a := range vips {
		if !a.Unmap().Is4() {
			only6 = append(only6, a)
		}
	}
	for _, tc := range []struct {
		name, pass string
		msg        CARP
		vips       []netip.Addr
		linkLocal  bool
	}{
		{"carp-order-openbsd", "mekmitasdigoat", CARP{ID: 255, AdvBase: 1, AdvSkew: 254, Demotion: 255,
			Counter: 0xfedcba9876543210}, vips, false},
		{"carp-order-freebsd", "mekmitasdigoat", CARP{ID: 255, AdvBase: 1, AdvSkew: 254, Counter: 0xfedcba9876543210},
			vips, true},
		{"carp-order-ipv6", "twentycharacterslong and what does not count", CARP{ID: 1, AdvBase: 254, AdvSkew: 1},
			only6, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := vector(t, tc.name)
			key := NewCARPKey([]byte(tc.pass), tc.msg.ID, tc.vips, tc.linkLocal)
			m := tc.msg
			m.Digest = key.Digest(m.Counter)
			if got := m.Append(nil); !bytes.Equal(got, want) {
				t.Errorf("\n got %x\nwant %x", got, want)
			}
			var heard CARP
			if err := heard.Parse(want); err != nil || !key.Verify(&heard) {
				t.Fatalf("does not verify, error %v", err)
			}
			if heard.ID != tc.msg.ID || heard.AdvBase != tc.msg.AdvBase || heard.AdvSkew != tc.msg.AdvSkew ||
				heard.Demotion != tc.msg.Demotion {
				t.Errorf("parsed as %+v", heard)
			}
			for what, other := range map[string]*CARPKey{
				"another vhid":          NewCARPKey([]byte(tc.pass), tc.msg.ID^3, tc.vips, tc.linkLocal),
				"another pass":          NewCARPKey([]byte("love"), tc.msg.ID, tc.vips, tc.linkLocal),
				"an address less":       NewCARPKey([]byte(tc.pass), tc.msg.ID, tc.vips[1:], tc.linkLocal),
				"another way of fe80::": NewCARPKey([]byte(tc.pass), tc.msg.ID, tc.vips, !tc.linkLocal),
			} {
				if other.Verify(&heard) {
					t.Errorf("verifies with %s", what)
				}
			}
			if heard.Counter++; key.Verify(&heard) {
				t.Error("verifies with another counter")
			}
		})
	}
}

// Digests that ucarp sent, and one computed by rule from OpenBSD's description.
func TestCARPVectorsOfOpenBSD(t *testing.T) {
	for _, tc := range []struct {
		vips []netip.Addr
		want string
	}{
		{addrs("10.99.1.254"), "210703070001aad9f234de0aab95ab169855993e8bd3e00f1815e1168ed15ec38d47f8aa"},
		{addrs("10.99.1.254", "10.0.0.1", "2001:db8::1"),
			"2107030700015213f234de0aab95ab16d26baf4094a92575a18632bdaf17a34794486c3a"},
	} {
		key := NewCARPKey([]byte("mekmitasdigoat"), 7, tc.vips, false)
		m := CARP{ID: 7, AdvSkew: 3, AdvBase: 1, Counter: 0xf234de0aab95ab16}
		m.Digest = key.Digest(m.Counter)
		if got := hex.EncodeToString(m.Append(nil)); got != tc.want {
			t.Errorf("%v:\n got %s\nwant %s", tc.vips, got, tc.want)
		}
	}
}

func TestVRRPVectors(t *testing.T) {
	key := make([]byte, 32)
	for i := range key {
		key[i] = 0x40 + byte(i)
	}
	v4 := VRRP{Version: 3, ID: 51, Priority: 200, Interval: time.Second, Addrs: addrs("10.66.0.100")}
	v6 := VRRP{Version: 3, ID: 51, Priority: 200, Interval: 500 * time.Millisecond,
		Addrs: addrs("fe80::100", "fd66::100")}
	ll, src4 := netip.MustParseAddr("fe80::ff:fe00:1"), netip.MustParseAddr("10.66.0.1")
	tests := []struct {
		name     string
		v        VRRP
		src, dst netip.Addr
		dialect  Checksum
		signed   bool
	}{
		{"vrrp3-ip4-message", v4, src4, Group4(), ChecksumMessage, false},
		{"vrrp3-ip4-pseudo", v4, src4, Group4(), ChecksumPseudo, false},
		{"vrrp3-ip6", v6, ll, Group6(), ChecksumPseudo, false},
		{"vrrp3-ip4-hmac", v4, src4, Group4(), ChecksumMessage, true},
		{"vrrp3-ip6-hmac", v6, ll, Group6(), ChecksumPseudo, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			want := vector(t, tc.name)
			v := tc.v
			v.Checksum = tc.dialect
			k := NewTrailerKey(key)
			if tc.signed {
				plain, err := v.Append(nil, tc.src, tc.dst)
				if err != nil {
					t.Fatal(err)
				}
				tr := Trailer{KeyID: 3, Seq: 0x6a00000080000001}
				k.Sign(&tr, plain, tc.src)
				v.Trailer = tr.Append(nil)
			}
			got, err := v.Append(nil, tc.src, tc.dst)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("\n got %x\nwant %x", got, want)
			}

			var back VRRP
			if err := back.Parse(got, tc.src, tc.dst); err != nil {
				t.Fatal(err)
			}
			if tc.src.Is4() && back.Checksum != tc.dialect {
				t.Errorf("dialect %v, want %v", back.Checksum, tc.dialect)
			}
			if !tc.signed {
				return
			}
			var tr Trailer
			if err := tr.Parse(back.Trailer); err != nil {
				t.Fatal(err)
			}
			message := got[:len(got)-TrailerLen]
			if !k.Verify(&tr, message, tc.src) {
				t.Error("trailer does not verify")
			}
			forged := append([]byte(nil), message...)
			forged[2] = 0
			if k.Verify(&tr, forged, tc.src) {
				t.Error("trailer verifies for another priority")
			}
		})
	}
}

func TestVRRPRefusals(t *testing.T) {
	src, dst := netip.MustParseAddr("10.66.0.1"), Group4()
	good := vector(t, "vrrp3-ip4-pseudo")
	with := func(off int, b byte) []byte {
		m := append([]byte(nil), good...)
		m[off] = b
		putChecksum(append(m[:6:6], 0, 0), 0, 0)
		m[6], m[7] = 0, 0
		putChecksum(m, 6, sum(pseudo(src, dst, Protocol, len(m)), m))
		return m
	}
	for _, tc := range []struct {
		name string
		b    []byte
		want error
	}{
		{"short", good[:7], ErrVRRPShort},
		{"version 4", with(0, 0x41), ErrVRRPVersion},
		{"id 0", with(1, 0), ErrVRRPID},
		{"no addresses", with(3, 0), ErrVRRPCount},
		{"two addresses announced, one there", with(3, 2), ErrVRRPShort},
		{"interval 0", with(5, 0), ErrVRRPInterval},
		{"bad checksum", append(append([]byte(nil), good[:6]...), append([]byte{1, 2}, good[8:]...)...),
			ErrVRRPChecksum},
	} {
		var v VRRP
		if err := v.Parse(tc.b, src, dst); err != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	v := VRRP{Version: 3, ID: 1, Priority: 1, Interval: time.Second, Addrs: addrs("2001:db8::1")}
	ll := netip.MustParseAddr("fe80::1")
	b, err := v.Append(nil, ll, Group6())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Parse(b, ll, Group6()); err != ErrVRRPLocal {
		t.Errorf("first address not link-local: %v", err)
	}
}

func TestKindOf(t *testing.T) {
	// VRRPv2 with seven addresses has CARP's authentication length in byte 3.
	v := VRRP{Version: 2, ID: 9, Priority: 100, Interval: time.Second, Addrs: addrs("10.0.0.1", "10.0.0.2", "10.0.0.3",
		"10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7")}
	b, err := v.Append(nil, netip.MustParseAddr("10.0.0.9"), Group4())
	if err != nil {
		t.Fatal(err)
	}
	if k := KindOf(b); k != KindVRRP2 {
		t.Errorf("kind %d, want VRRPv2", k)
	}
	if k := KindOf(append(vector(t, "carp-fast"), make([]byte, TrailerLen)...)); k != KindCARP {
		t.Errorf("CARP with trailer: kind %d", k)
	}
}

// A receiver must not allocate per packet.
func TestParseDoesNotAllocate(t *testing.T) {
	all := advertisements(t)
	var f Frame
	var v VRRP
	var c CARP
	n := testing.AllocsPerRun(50, func() {
		for _, a := range all {
			if f.Parse(a.frame) != nil || f.Proto != Protocol {
				continue
			}
			if KindOf(f.Payload) == KindCARP {
				_ = c.Parse(f.Payload)
			} else {
				_ = v.Parse(f.Payload, f.SrcIP, f.DstIP)
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
