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
	return r.auth.Sign(b, message, r.src, time.Now())
}

// markName is what the sequence number of a router is remembered under, beside
// the terms of groups, whose names have no blanks.
func (r *router) markName() string { return "signed " + r.Instance + " " + family(r.six()) }

// resumeMarks lets sequence numbers go on where an earlier process stopped.
func (e *Engine) resumeMarks() {
	for _, r := range e.routers {
		if r.auth.Signs() {
			r.auth.Resume(e.deps.Terms.Term(r.markName()), time.Now())
		}
	}
}

// keepMarks writes the sequence numbers down, each minute.
func (e *Engine) keepMarks(now time.Duration) {
	if now < e.marksAt {
		return
	}
	e.marksAt = now + auth.MarkEach
	for _, r := range e.routers {
		if r.auth.Signs() && r.auth.Mark() != 0 {
			e.terms.put(termOf{r.markName(), r.auth.Mark()})
		}
	}
}
