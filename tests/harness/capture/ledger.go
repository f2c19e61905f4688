package capture

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Marker is at the start of the payload of every metered packet. A packet that
// shows it is not encrypted, whatever it is wrapped in.
const Marker = "sasyncd-meter-plaintext!"

// Ledger books the frames that nodes send and judges them. Its methods may be
// called from any goroutine.
type Ledger struct {
	names []string // of the ports' nodes, at most 256
	inner []netip.Prefix
	never []uint8 // IP protocols

	mu         sync.Mutex
	frames     *frameLog // for the pcap file
	sas        map[said]*SA
	events     []event
	duplicates []Duplicate
	plain      []string // descriptions of the first few
	plainCount int
}

const keepExamples = 20

// NewLedger returns an empty ledger for the ports of the named nodes, at most
// 256. An IP packet from or to one of the inner networks is plaintext.
func NewLedger(names []string, inner []netip.Prefix) *Ledger {
	return &Ledger{names: names, inner: inner, frames: newFrameLog(), sas: map[said]*SA{}}
}

// Add books a frame that the node at a port sent, and returns it taken apart;
// Packet.Port is nil.
func (l *Ledger) Add(at time.Time, port int, frame []byte) Packet {
	p := Packet{At: at, Length: len(frame), Frame: frame}
	parse(frame, &p)
	l.book(&p, port)
	return p
}

func (l *Ledger) book(p *Packet, port int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frames.add(p)
	if p.IsESP {
		l.bookESP(p, uint8(port))
	}
	if l.isPlain(p) {
		l.plainCount++
		l.events = append(l.events, event{at: p.At.UnixNano(), port: uint8(port), kind: kindPlaintext})
		if len(l.plain) < keepExamples {
			l.plain = append(l.plain, fmt.Sprintf("%s from %s: %s > %s protocol %d, %d bytes",
				p.At.Format("15:04:05.000000"), l.names[port], p.Src, p.Dst, p.Proto, p.Length))
		}
	}
}

func (l *Ledger) bookESP(p *Packet, port uint8) {
	id := said{p.Src, p.Dst, p.SPI}
	sa := l.sas[id]
	if sa == nil {
		sa = &SA{Src: p.Src, Dst: p.Dst, SPI: p.SPI, seen: map[uint64]sender{}}
		l.sas[id] = sa
	}
	seq, first, k := sa.add(p, port)
	if k == kindDuplicate && len(l.duplicates) < keepExamples {
		l.duplicates = append(l.duplicates, Duplicate{
			Src: p.Src, Dst: p.Dst, SPI: p.SPI, Seq: seq,
			First: time.Unix(0, first.at), FirstFrom: l.names[first.port],
			Then: p.At, ThenFrom: l.names[port],
		})
	}
	l.events = append(l.events, event{at: p.At.UnixNano(), port: port, kind: k})
}

func (l *Ledger) isPlain(p *Packet) bool {
	for _, n := range l.inner {
		if n.Contains(p.Src) || n.Contains(p.Dst) {
			return true
		}
	}
	return slices.Contains(l.never, p.Proto) && p.Src.IsValid() || bytes.Contains(p.Frame, []byte(Marker))
}

// SAs returns what was seen of each SA, ordered by SPI.
func (l *Ledger) SAs() []SA {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []SA
	for _, sa := range l.sas {
		s := *sa
		s.seen = nil
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b SA) int {
		return cmp.Or(cmp.Compare(a.SPI, b.SPI), a.Src.Compare(b.Src), a.Dst.Compare(b.Dst))
	})
	return list
}

// Duplicates returns the first few sequence numbers that were sent twice;
// [Ledger.Between] counts them all.
func (l *Ledger) Duplicates() []Duplicate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.duplicates)
}

// Plaintext returns the number of packets in the clear and describes the first few.
func (l *Ledger) Plaintext() (int, []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plainCount, slices.Clone(l.plain)
}

// Between counts what was sent at or after from and before to, by the given
// ports, or by all when none is given.
func (l *Ledger) Between(from, to time.Time, ports ...int) Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n Counts
	for _, e := range l.events {
		if e.at < from.UnixNano() || e.at >= to.UnixNano() || len(ports) > 0 && !slices.Contains(ports, int(e.port)) {
			continue
		}
		switch e.kind {
		case kindESP:
			n.ESP++
		case kindDuplicate:
			n.ESP++
			n.Duplicate++
		case kindRelayed:
			n.Relayed++
		case kindPlaintext:
			n.Plaintext++
		}
	}
	return n
}

// Faults describes every sequence number that was sent twice and every packet
// in plaintext, and a ledger without any ESP at all.
func (l *Ledger) Faults() []string {
	var list []string
	total := 0
	for _, sa := range l.SAs() {
		total += sa.Packets
		if sa.Duplicates > 0 {
			list = append(list, fmt.Sprintf("%s > %s spi %#x: %d sequence numbers were sent twice", sa.Src, sa.Dst,
				sa.SPI, sa.Duplicates))
		}
	}
	for _, d := range l.Duplicates() {
		list = append(list, d.String())
	}
	if n, examples := l.Plaintext(); n > 0 {
		list = append(list, fmt.Sprintf("%d packets in plaintext, first:\n%s", n, strings.Join(examples, "\n")))
	}
	if total == 0 {
		list = append(list, "the capture saw no ESP packet")
	}
	return list
}

// WriteFile writes the latest frames to a new pcap file.
func (l *Ledger) WriteFile(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.frames.write(name)
}
