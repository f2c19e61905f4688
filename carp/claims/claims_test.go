package claims

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"sasyncd/carp/packet"
)

var (
	addr  = netip.MustParseAddr("192.0.2.1")
	other = netip.MustParseAddr("192.0.2.9")
	one   = packet.MAC{2, 0, 0, 0, 0, 1}
	two   = packet.MAC{2, 0, 0, 0, 0, 2}
)

func TestBook(t *testing.T) {
	const start = time.Hour
	var b Book
	b.Aim([]netip.Addr{addr}, start)
	at := func(after time.Duration) time.Duration { return start + after }
	b.Claimed(other, one, at(time.Second))
	if got := b.Claims(other, 0, at(time.Second)); got != nil {
		t.Errorf("%v claims what nobody asked for", got)
	}
	b.Claimed(addr, one, at(time.Second))
	b.Claimed(addr, two, at(20*time.Second))
	for _, tt := range []struct {
		since, now time.Duration
		want       []packet.MAC
	}{
		{0, at(21 * time.Second), []packet.MAC{one, two}},
		{at(10 * time.Second), at(21 * time.Second), []packet.MAC{two}}, // there is another MASTER since
		{0, at(40 * time.Second), []packet.MAC{two}},
		{0, at(2 * time.Minute), nil},
	} {
		if got := b.Claims(addr, tt.since, tt.now); !slices.Equal(got, tt.want) {
			t.Errorf("since %v at %v: %v, want %v", tt.since, tt.now, got, tt.want)
		}
	}
}

// TestFloodTakesNoRoom: the machines that are noted are few, and the latest.
func TestFloodTakesNoRoom(t *testing.T) {
	var b Book
	b.Aim([]netip.Addr{addr}, 1)
	for i := range 1000 {
		b.Claimed(addr, packet.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}, time.Second+time.Duration(i))
	}
	b.Claimed(addr, one, 2*time.Second)
	if got := b.Claims(addr, 0, 2*time.Second); len(got) != places || !slices.Contains(got, one) {
		t.Errorf("%v", got)
	}
}

func TestSilent(t *testing.T) {
	const start = time.Hour
	var b Book
	b.Aim([]netip.Addr{addr}, start)
	ask := func(at time.Duration) {
		for d := time.Duration(0); d <= at; d += AskEvery {
			b.Asked(addr, start+d)
		}
	}
	if b.Silent(addr, 0, start+Recent) {
		t.Error("silent without a question")
	}
	ask(20 * time.Second)
	if b.Silent(addr, 0, start+20*time.Second) {
		t.Error("silent after two questions")
	}
	ask(40 * time.Second)
	if !b.Silent(addr, 0, start+40*time.Second) {
		t.Error("not silent after four questions without an answer")
	}
	if b.Silent(addr, start+30*time.Second, start+40*time.Second) {
		t.Error("silent, and the MASTER has just changed")
	}
	if b.Silent(addr, 0, start+10*time.Minute) {
		t.Error("silent, and nobody has asked for minutes: the interface is down")
	}
	b.Claimed(addr, one, start+40*time.Second)
	if b.Silent(addr, 0, start+41*time.Second) {
		t.Error("silent with an answer")
	}
}
