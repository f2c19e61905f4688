package capture

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// packet4 is an Ethernet frame with an IPv4 packet.
func packet4(src, dst string, proto byte, payload []byte) []byte {
	f := make([]byte, 14+20, 14+20+len(payload))
	f[12], f[14], f[22], f[23] = 8, 0x45, 64, proto
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(f[26:], s[:])
	copy(f[30:], d[:])
	return append(f, payload...)
}

func esp(spi, seq uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, spi)
	return binary.BigEndian.AppendUint32(b, seq)
}

func TestLedger(t *testing.T) {
	at := time.Unix(1000, 0)
	l := NewLedger([]string{"gw1", "gw2"}, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")})
	if got := l.Faults(); len(got) != 1 || !strings.Contains(got[0], "no ESP") {
		t.Errorf("an empty ledger finds %q", got)
	}
	send := func(port int, frame []byte) Packet {
		at = at.Add(time.Second)
		return l.Add(at, port, frame)
	}
	for seq := range uint32(3) {
		if p := send(0, packet4("192.0.2.1", "192.0.2.100", protoESP, esp(7, seq+1))); !p.IsESP || p.SPI != 7 ||
			p.Seq != seq+1 {
			t.Errorf("packet %d was taken for %+v", seq+1, p)
		}
	}
	send(1, packet4("192.0.2.1", "192.0.2.100", protoESP, esp(7, 10)))
	send(1, packet4("192.0.2.12", "192.0.2.100", 17, make([]byte, 20)))
	if got := l.Faults(); got != nil {
		t.Errorf("faults without any: %q", got)
	}
	second := at
	send(1, packet4("192.0.2.1", "192.0.2.100", protoESP, append(esp(7, 2), 1)))
	send(1, packet4("192.0.2.12", "10.1.0.10", 17, nil))
	send(1, packet4("192.0.2.12", "192.0.2.100", 17, append(make([]byte, 8), Marker...)))
	faults := strings.Join(l.Faults(), "\n")
	for _, want := range []string{"spi 0x7: 1 sequence numbers were sent twice", "seq 2: sent by gw1", "again by gw2",
		"2 packets in plaintext"} {
		if !strings.Contains(faults, want) {
			t.Errorf("the faults do not say %q:\n%s", want, faults)
		}
	}
	for _, tc := range []struct {
		from, to time.Time
		ports    []int
		want     Counts
	}{
		{time.Unix(0, 0), at.Add(1), nil, Counts{ESP: 5, Duplicate: 1, Plaintext: 2}},
		{time.Unix(0, 0), at, nil, Counts{ESP: 5, Duplicate: 1, Plaintext: 1}},
		{time.Unix(0, 0), second, []int{1}, Counts{ESP: 1}},
		{second.Add(1), at.Add(1), []int{0}, Counts{}},
	} {
		if got := l.Between(tc.from, tc.to, tc.ports...); got != tc.want {
			t.Errorf("between %v and %v, ports %v: %+v, want %+v", tc.from.Unix(), tc.to.Unix(), tc.ports, got, tc.want)
		}
	}
}
