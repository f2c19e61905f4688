package api

import "sync/atomic"

// refusals count what the server did not take.
type refusals struct{ busy, malformed, denied, slow, unaccepted atomic.Uint64 }

// Refused calls f with each reason and how often it applied: busy (all places
// were taken; an older connection may have been cut off instead), malformed (a
// line that is too long or no request), denied (not for that user), slow (cut off
// because it did not read), accept (no descriptor for the connection).
func (s *Server) Refused(f func(reason string, n uint64)) {
	f("busy", s.refused.busy.Load())
	f("malformed", s.refused.malformed.Load())
	f("denied", s.refused.denied.Load())
	f("slow", s.refused.slow.Load())
	f("accept", s.refused.unaccepted.Load())
}
