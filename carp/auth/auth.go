// Package auth judges the trailer that authenticates advertisements
// (draft-cassen-vrrp-auth-hmac): which key, whether it is genuine, and whether
// it is new. It is pure: times are arguments.
//
// What is new is decided by high-water marks: of each sender the highest
// sequence number so far is remembered, and only a higher one counts. Sequence
// numbers are made of the sender's clock, but compared with each other only, so
// that a clock that is wrong, or stepped, never silences a pair of nodes. The
// marks are for the daemon to keep over a restart (Latest, Remember). A window
// against the own clock can be added (keepalived has one); then a replay of
// something that was never seen is refused too, and clocks have to agree.
package auth

import (
	"fmt"
	"net/netip"
	"time"

	"sasyncd/carp/packet"
)

// Mode is how strictly the trailer is demanded. The order is that of a change
// from none to enforce without an interruption.
type Mode uint8

// The modes.
const (
	None        Mode = iota // neither sign nor look
	ReceiveOnly             // look and count, accept all, do not sign
	Permissive              // sign; accept what is unsigned or of an unknown key
	Enforce                 // sign; accept what is signed only
)

// Key is a shared key. It does not print.
type Key struct {
	ID     uint8
	Secret []byte // 32 to 64 bytes
}

// String returns a placeholder.
func (k Key) String() string { return fmt.Sprintf("<key %d, %d bytes>", k.ID, len(k.Secret)) }

// Format prints the placeholder, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// Policy is what a virtual router demands.
type Policy struct {
	Mode   Mode
	Keys   []Key         // the first signs, all verify
	Window time.Duration // distance from the own clock that is accepted; 0: any
}

// Verdict is what was found about a message.
type Verdict uint8

// The verdicts. Only Genuine proves anything.
const (
	Genuine    Verdict = iota
	Unsigned           // no trailer
	Malformed          // something else than a trailer
	UnknownKey         // signed with a key that we do not have
	Forged             // the digest is wrong
	Replayed           // not newer than what its sender sent before
	Stale              // outside of the window
	Verdicts           // their number
)

// String names the verdict, as metrics do.
func (v Verdict) String() string {
	names := [Verdicts]string{"genuine", "unsigned", "malformed", "unknown_key", "forged", "replayed", "stale"}
	if v < Verdicts {
		return names[v]
	}
	return "unknown"
}

// maxSenders bounds the table. Only holders of a key get in; one that sends
// from ever new addresses pushes out nobody and is not believed.
const maxSenders = 64

// Auth signs and judges for one virtual router. Not for concurrent use.
type Auth struct {
	mode   Mode
	window time.Duration
	keys   []packet.TrailerKey
	ids    []uint8
	marks  map[netip.Addr]uint64
	seq    uint64
	tr     packet.Trailer
}

// New makes an Auth.
func New(p Policy) *Auth {
	a := &Auth{mode: p.Mode, window: p.Window, marks: make(map[netip.Addr]uint64)}
	for _, k := range p.Keys {
		a.keys = append(a.keys, *packet.NewTrailerKey(k.Secret))
		a.ids = append(a.ids, k.ID)
	}
	return a
}

// Signs reports whether own messages carry a trailer.
func (a *Auth) Signs() bool { return a.mode >= Permissive && len(a.keys) > 0 }

// Checks reports whether trailers are looked at.
func (a *Auth) Checks() bool { return a.mode != None }

// Accepts reports whether a message about which v was found may be acted on.
func (a *Auth) Accepts(v Verdict) bool {
	switch a.mode {
	case Enforce:
		return v == Genuine
	case Permissive:
		// Not what pretends to be signed: its sender would have been believed
		// without.
		return v == Genuine || v == Unsigned || v == UnknownKey
	}
	return true
}

// Check judges a message (without trailer) from src at wall-clock time now. A
// genuine one raises the mark of its sender.
func (a *Auth) Check(message, trailer []byte, src netip.Addr, now time.Time) Verdict {
	if len(trailer) == 0 {
		return Unsigned
	}
	t := &a.tr
	if t.Parse(trailer) != nil {
		return Malformed
	}
	found := false
	for i := range a.keys {
		if a.ids[i] != t.KeyID {
			continue
		}
		found = true
		if a.keys[i].Verify(t, message, src) {
			return a.fresh(t.Seq, src, now)
		}
	}
	if found {
		return Forged
	}
	return UnknownKey
}

// fresh judges the sequence number of a message whose digest is right.
func (a *Auth) fresh(seq uint64, src netip.Addr, now time.Time) Verdict {
	mark, known := a.marks[src]
	if known && int64(seq-mark) <= 0 { // serial arithmetic, as the draft says
		return Replayed
	}
	if a.window > 0 {
		// The upper 32 bits are seconds; wrap-around as above.
		if d := time.Duration(int32(uint32(seq>>32)-uint32(now.Unix()))) * time.Second; d > a.window || d < -a.window {
			return Stale
		}
	}
	if !known && len(a.marks) >= maxSenders {
		return Replayed
	}
	a.marks[src] = seq
	return Genuine
}

// Latest is the sequence number of the message that was checked last, for the
// next life of the daemon if that was genuine. See Remember.
func (a *Auth) Latest() uint64 { return a.tr.Seq }

// Remember takes over what an earlier life of the daemon has seen of a sender,
// so that nothing recorded until then is believed again.
func (a *Auth) Remember(src netip.Addr, seq uint64) {
	if mark, known := a.marks[src]; len(a.marks) < maxSenders && (!known || int64(seq-mark) > 0) {
		a.marks[src] = seq
	}
}

// Mark is the sequence number last signed, for the next life of the daemon.
func (a *Auth) Mark() uint64 { return a.seq }

// resumeAhead is more than what is signed within MarkAge, in the units of a
// sequence number.
const resumeAhead = 2 * uint64(MarkAge/time.Second) << 32

// MarkAge is how old a Mark may be that is resumed from, as after a loss of
// power.
const MarkAge = time.Minute

// Resume continues after the Mark that an earlier life of the daemon kept. It
// has no effect unless the clock went back since.
func (a *Auth) Resume(mark uint64, now time.Time) {
	if mark > sequence(now) {
		a.seq = max(a.seq, mark+resumeAhead)
	}
}

// Inherit takes over what was learned under an earlier policy. The keys are
// those of the new one.
func (a *Auth) Inherit(old *Auth) {
	a.marks, a.seq = old.marks, max(a.seq, old.seq)
}

// Sign appends the trailer for a message from src to b. Sequence numbers follow
// the wall clock and never fall behind themselves.
func (a *Auth) Sign(b, message []byte, src netip.Addr, now time.Time) []byte {
	a.seq = max(a.seq+1, sequence(now))
	a.tr = packet.Trailer{KeyID: a.ids[0], Seq: a.seq}
	a.keys[0].Sign(&a.tr, message, src)
	return a.tr.Append(b)
}

// sequence is the least sequence number at a time: seconds, a 16-bit fraction,
// and a counter of 0.
func sequence(now time.Time) uint64 {
	return uint64(uint32(now.Unix()))<<32 | uint64(now.Nanosecond())<<16/uint64(time.Second)<<16
}
