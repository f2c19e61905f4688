package engine

import (
	"log/slog"
	"net/netip"
	"time"

	"sasyncd/carp/auth"
	"sasyncd/carp/link"
)

// trailerTexts say what is wrong with the trailer of an advertisement.
var trailerTexts = func() (texts [auth.Verdicts]string) {
	for v := range texts {
		texts[v] = "it is not authentic: " + auth.Verdict(v).String()
	}
	return texts
}()

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
		if e.maySay(r, warnTrailerTaken, link.BootTime(), src) {
			e.say(slog.LevelWarn, "advertisement is not authentic, accepted in this mode of auth",
				"instance", r.Instance, "peer", src, "found", v.String())
		}
		return false, true
	}
	e.refuse(r, warnTrailer, trailerTexts[v], src)
	return false, false
}

// appendTrailer appends the trailer of a message from an address to b, if the
// router signs.
func (e *Engine) appendTrailer(b, message []byte, r *router, from netip.Addr) []byte {
	if !r.auth.Signs() {
		return b
	}
	b = r.auth.Sign(b, message, from, time.Now())
	e.marks.note(r, netip.Addr{}, r.auth.Mark())
	return b
}
