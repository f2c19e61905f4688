package packet

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// capture is one frame of a real daemon.
type capture struct {
	name  string
	frame []byte
}

// advertisements reads the distinct advertisements of ucarp, keepalived and FRR.
func advertisements(tb testing.TB) []capture {
	tb.Helper()
	var out []capture
	for _, fields := range lines(tb, "testdata/advertisements.hex", " ") {
		b, err := hex.DecodeString(fields[2])
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, capture{fields[0] + " " + fields[1], b})
	}
	return out
}

// frames reads every frame of every pcap file (microsecond stamps, Ethernet).
func frames(tb testing.TB) []capture {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.pcap")
	if err != nil || len(files) == 0 {
		tb.Fatal("no captures", err)
	}
	var out []capture
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		if binary.LittleEndian.Uint32(b) != 0xa1b2c3d4 {
			tb.Fatalf("%s: not a little-endian pcap file", f)
		}
		for b = b[24:]; len(b) > 0; {
			n := binary.LittleEndian.Uint32(b[8:])
			out = append(out, capture{filepath.Base(f), b[16 : 16+n]})
			b = b[16+n:]
		}
	}
	return out
}

func lines(tb testing.TB, file, sep string) [][]string {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var out [][]string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, strings.Split(line, sep))
		}
	}
	return out
}

// remarshal takes a frame apart as far as this package understands it and puts
// it together again.
func remarshal(tb testing.TB, frame []byte) ([]byte, Kind) {
	tb.Helper()
	var f Frame
	if err := f.Parse(frame); err != nil {
		tb.Fatal(err)
	}
	body := f.Payload
	var ah AH
	if f.Proto == ProtocolAH {
		if err := ah.Parse(body); err != nil {
			tb.Fatal(err)
		}
		body = ah.Payload
	}
	kind := KindOf(body)
	switch kind {
	case KindCARP:
		var c CARP
		if err := c.Parse(body); err != nil {
			tb.Fatal(err)
		}
		body = c.Append(nil)
	case KindVRRP2, KindVRRP3:
		var v VRRP
		err := v.Parse(body, f.SrcIP, f.DstIP)
		if err == nil {
			body, err = v.Append(nil, f.SrcIP, f.DstIP)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if f.Proto == ProtocolAH {
		ah.Payload = body
		body = ah.Append(nil)
	}
	f.Payload = body
	out, err := f.Append(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return out, kind
}

func TestCapturesRoundTrip(t *testing.T) {
	all := append(advertisements(t), frames(t)...)
	seen := map[Kind]int{}
	for _, c := range all {
		if et := binary.BigEndian.Uint16(c.frame[12:]); et == etherTypeARP {
			continue
		}
		got, kind := remarshal(t, c.frame)
		if !bytes.Equal(got, c.frame) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, got, c.frame)
		}
		seen[kind]++
	}
	for _, k := range []Kind{KindCARP, KindVRRP2, KindVRRP3} {
		if seen[k] == 0 {
			t.Errorf("no capture of kind %d", k)
		}
	}
}

func TestCapturedFields(t *testing.T) {
	for _, c := range advertisements(t) {
		if !strings.Contains(c.name, "ip6-srcfe80000000000000000000fffe000001-b3133c802") ||
			!strings.HasPrefix(c.name, "keepalived-2.2.7-v3-ipv6.pcap") {
			continue
		}
		var f Frame
		var v VRRP
		if err := f.Parse(c.frame); err != nil {
			t.Fatal(err)
		}
		if err := v.Parse(f.Payload, f.SrcIP, f.DstIP); err != nil {
			t.Fatal(err)
		}
		if f.TTL != TTL || f.Proto != Protocol || f.DstIP != Group6() || f.Dst != GroupMAC(Group6()) {
			t.Errorf("frame %+v", f)
		}
		if v.Version != 3 || v.ID != 51 || v.Priority != 200 || v.Interval != 500*time.Millisecond {
			t.Errorf("message %+v", v)
		}
		if len(v.Addrs) != 2 || v.Addrs[0] != netip.MustParseAddr("fe80::100") ||
			v.Addrs[1] != netip.MustParseAddr("fd66::100") {
			t.Errorf("addresses %v", v.Addrs)
		}
		return
	}
	t.Fatal("capture not found")
}

func TestCapturedCARPDigest(t *testing.T) {
	key := NewCARPKey([]byte("love"), 42, []netip.Addr{netip.MustParseAddr("10.66.0.100")}, false)
	n := 0
	for _, c := range append(advertisements(t), frames(t)...) {
		var f Frame
		if f.Parse(c.frame) != nil || KindOf(f.Payload) != KindCARP {
			continue
		}
		var m CARP
		if err := m.Parse(f.Payload); err != nil {
			t.Fatal(err)
		}
		if !key.Verify(&m) {
			t.Errorf("%s: digest does not verify", c.name)
		}
		m.Counter++
		if key.Verify(&m) {
			t.Errorf("%s: digest verifies with another counter", c.name)
		}
		n++
	}
	if n < 3 {
		t.Errorf("only %d CARP messages found", n)
	}
}

// TestCapturedAnnouncements builds the announcements keepalived sent.
func TestCapturedAnnouncements(t *testing.T) {
	arp, na := 0, 0
	for _, c := range frames(t) {
		b := c.frame
		if !strings.HasPrefix(c.name, "keepalived-2.2.7-v3-ipv") {
			continue
		}
		var f Frame
		mac := MAC(b[6:12])
		switch {
		case binary.BigEndian.Uint16(b[12:]) == etherTypeARP:
			ip := netip.AddrFrom4([4]byte(b[28:32]))
			got := AppendGratuitousARP(nil, mac, ip)
			// The target hardware address of a request means nothing (RFC 826):
			// keepalived writes the broadcast address, RFC 5227 zeros.
			want := append([]byte(nil), b[:42]...)
			clear(want[32:38])
			if !bytes.Equal(got, want) {
				t.Errorf("%s:\n got %x\nwant %x", c.name, got, want)
			}
			arp++
		case f.Parse(b) == nil && f.Proto == protoICMP6 && f.Payload[0] == icmpAdvertisement && f.Dst.IsMulticast():
			got := AppendUnsolicitedNA(nil, mac, f.SrcIP, f.Payload[4]&naRouter != 0)
			if !bytes.Equal(got, b) {
				t.Errorf("%s:\n got %x\nwant %x", c.name, got, b)
			}
			na++
		}
	}
	if arp == 0 || na == 0 {
		t.Errorf("%d ARP and %d NA frames compared", arp, na)
	}
}
