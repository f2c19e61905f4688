package capture

import (
	"fmt"
	"net/netip"
	"time"
)

// said names an SA on the wire.
type said struct {
	src, dst netip.Addr
	spi      uint32
}

// SA sums up what was seen of one SA.
type SA struct {
	Src, Dst netip.Addr
	SPI      uint32

	Packets    int
	Duplicates int
	Relayed    int    // the same packet seen again on its way through another node
	Reordered  int    // arrived behind a higher sequence number; duplicates are not counted
	First      uint64 // sequence numbers, widened to 64 bits by the order of arrival
	Last       uint64
	Highest    uint64

	seen map[uint64]sender
}

// sender says who sent a sequence number first. It is small: there are many.
type sender struct {
	at   int64  // nanoseconds of Unix time
	sum  uint32 // of the packet
	port uint8  // index of the capture's ports
	hops uint8
}

// relayed reports whether p is the packet that this sender sent, or the other
// way round: the same bytes, a different number of hops from the source. A node
// that has just lost a virtual address routes what still comes to it to the
// node that has it now; nothing is encrypted twice by that.
func (s sender) relayed(p *Packet) bool { return s.sum == p.Sum && s.hops != p.Hops }

// Duplicate is a sequence number that was sent twice.
type Duplicate struct {
	Src, Dst    netip.Addr
	SPI         uint32
	Seq         uint64
	First, Then time.Time
	FirstFrom   string // names of nodes
	ThenFrom    string
}

func (d Duplicate) String() string {
	return fmt.Sprintf("%s > %s spi %#x seq %d: sent by %s at %s, again by %s %v later", d.Src, d.Dst, d.SPI, d.Seq,
		d.FirstFrom, d.First.Format("15:04:05.000000"), d.ThenFrom, d.Then.Sub(d.First))
}

// widen guesses the upper half of an extended sequence number as the value
// nearest to the last one, as RFC 4304 receivers do. A counter of 32 bits that
// never wraps comes out unchanged.
func (sa *SA) widen(seq uint32) uint64 {
	if sa.Packets == 0 {
		return uint64(seq)
	}
	const half = 1 << 31
	w := sa.Last&^0xffffffff | uint64(seq)
	switch {
	case w+half < sa.Last:
		w += 1 << 32
	case w > sa.Last+half && w >= 1<<32:
		w -= 1 << 32
	}
	return w
}

// add books a packet and returns the first sender when its number was seen
// before, other than by a relay.
func (sa *SA) add(p *Packet, port uint8) (seq uint64, first sender, k kind) {
	seq = sa.widen(p.Seq)
	first, again := sa.seen[seq]
	if again && first.relayed(p) {
		sa.Relayed++
		return seq, first, kindRelayed
	}
	if sa.Packets == 0 {
		sa.First = seq
	}
	sa.Packets++
	sa.Last = seq
	if again {
		sa.Duplicates++
		return seq, first, kindDuplicate
	}
	if seq < sa.Highest {
		sa.Reordered++
	}
	sa.Highest = max(sa.Highest, seq)
	sa.seen[seq] = sender{at: p.At.UnixNano(), sum: p.Sum, port: port, hops: p.Hops}
	return seq, sender{}, kindESP
}

// Counts are numbers of packets in a period of time.
type Counts struct {
	ESP, Duplicate, Relayed, Plaintext int
}

// event is one ESP or plaintext packet, kept to count by time and port.
type event struct {
	at   int64
	port uint8
	kind kind
}

type kind uint8

const (
	kindESP kind = iota
	kindDuplicate
	kindRelayed
	kindPlaintext
)
