package engine

import (
	"net/netip"
	"time"

	"sasyncd/carp/auth"
)

// authentic judges the trailer of a message. signed says that it proves the
// sender to be one of ours, ok that the message may be acted on.
func (e *Engine) authentic(r *router, message, trailer []byte, src netip.Addr) (signed, ok bool) {
	if !r.auth.Checks() {
		return false, true
	}
	v := r.auth.Check(message, trailer, src, time.Now())
	r.verdicts[v].Add(1)
	if v == auth.Genuine {
		e.marks.note(r, src, r.auth.Latest())
		return true, true
	}
	if r.auth.Accepts(v) {
		e.warn(r, warnTrailer, "advertisement is not authentic, accepted in this mode of auth", src, "found", v.String())
		return false, true
	}
	r.dropped.Add(1)
	r.note(warnTrailer, bootTime(), src, v.String())
	e.warn(r, warnTrailer, "advertisement refused", src, "reason", "not authentic: "+v.String())
	return false, false
}

// appendTrailer appends the trailer of message to b, if the router signs.
func (e *Engine) appendTrailer(b, message []byte, r *router) []byte {
	if !r.auth.Signs() {
		return b
	}
	b = r.auth.Sign(b, message, r.src, time.Now())
	e.marks.note(r, netip.Addr{}, r.auth.Mark())
	return b
}
