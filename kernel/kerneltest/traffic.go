package kerneltest

import (
	"net/netip"
	"slices"

	"sasyncd/sync/sadb"
)

// Send counts one packet of n bytes out on the SA and returns its sequence
// number. ok is false when there is no such SA, or when a 32-bit counter is
// used up (XfrmOutStateSeqError).
func (k *Kernel) Send(key sadb.SAKey, n uint64) (seq uint64, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.locate(key)
	if s == nil || s.Larval() {
		return 0, false
	}
	if !s.ESN() && s.OSeq == 1<<32-1 {
		if s.Extra&sadb.ExtraMayWrap == 0 {
			return 0, false
		}
		s.OSeq = 0
	} else {
		s.OSeq++
	}
	k.count(s, n)
	return s.OSeq, true
}

// Receive offers the SA a packet of n bytes with the given sequence number and
// reports whether the replay window accepts it (RFC 4303 3.4.3). With ESN the
// receiver knows the low 32 bits only and infers the rest; a packet whose true
// number is another fails its integrity check and is not accepted.
func (k *Kernel) Receive(key sadb.SAKey, seq, n uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.locate(key)
	if s == nil || s.Larval() {
		return false
	}
	if s.ESN() && inferred(uint32(seq), s.Seq, s.Window) != seq {
		return false
	}
	if s.Window > 0 && !s.accept(seq) {
		return false
	}
	k.count(s, n)
	return true
}

// ReceiveFrom is Receive for ESP in UDP from an address and port. Where they are
// not those that the SA has, an accepted packet is announced with them
// (net/ipv4/esp4.c, esp_input_done2), and changes nothing else.
func (k *Kernel) ReceiveFrom(key sadb.SAKey, seq, n uint64, from netip.AddrPort) bool {
	if !k.Receive(key, seq, n) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.locate(key)
	if s.Encap != nil && (s.Src != from.Addr() || s.Encap.SrcPort != from.Port()) {
		key.Mark = sadb.Mark{} // the message has none
		k.announce(sadb.Event{Kind: sadb.EventMapping, SA: &sadb.SA{Key: key, Reqid: s.Reqid, Src: from.Addr()},
			Encap: &sadb.Encap{SrcPort: from.Port()}}, 0)
	}
	return true
}

func (k *Kernel) count(s *sa, n uint64) {
	s.Bytes, s.Packets = s.Bytes+n, s.Packets+1
	if s.used == 0 {
		s.used = k.now().Unix()
	}
}

// inferred returns the full number that a receiver concludes from the low bits
// (RFC 4303 appendix A2.2).
func inferred(low uint32, top uint64, window uint32) uint64 {
	tl, th := uint32(top), top>>32
	bottom := tl - window + 1
	switch {
	case tl >= window-1 && low < bottom:
		th++
	case tl < window-1 && low >= bottom:
		th--
	}
	return th<<32 | uint64(low)
}

// accept moves the window as the kernel does, in both layouts.
func (s *sa) accept(seq uint64) bool {
	if seq == 0 {
		return false
	}
	w := uint64(s.Window)
	ring := s.BitmapLen > 0 || s.ESN()
	bit := func(seq uint64) (word int, mask uint32) {
		if !ring {
			return 0, 1 << (s.Seq - seq)
		}
		pos := (seq - 1) % w
		return int(pos / 32), 1 << (pos % 32)
	}
	if seq <= s.Seq {
		if s.Seq-seq >= w {
			return false
		}
		word, mask := bit(seq)
		if s.Bitmap[word]&mask != 0 {
			return false
		}
		s.Bitmap = slices.Clone(s.Bitmap)
		s.Bitmap[word] |= mask
		return true
	}
	old := s.Seq
	s.Bitmap = slices.Clone(s.Bitmap)
	if ring {
		for n := old + 1; n < seq && n <= old+w; n++ {
			word, mask := bit(n)
			s.Bitmap[word] &^= mask
		}
	} else if seq-old < 32 {
		s.Bitmap[0] <<= seq - old
	} else {
		s.Bitmap[0] = 0
	}
	s.Seq = seq
	word, mask := bit(seq)
	s.Bitmap[word] |= mask
	return true
}
