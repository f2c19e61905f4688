package engine

import (
	"net/netip"
	"slices"
	"time"

	"sasyncd/carp/api"
	"sasyncd/carp/bfd"
)

// bfdSession is a session that a group tracks, as it was told last.
type bfdSession struct {
	neighbor netip.Addr
	device   string // "" any
	status   bfd.Status
	since    time.Duration // when its state changed
}

// BFD takes note of the state of a session, for the status only: what comes of it
// is a demotion, see [Engine.Track]. Safe for concurrent use.
func (e *Engine) BFD(group string, neighbor netip.Addr, device string, status bfd.Status) {
	e.post(func(now time.Duration) {
		g := e.find(group)
		if g == nil {
			return
		}
		at := slices.IndexFunc(g.bfd, func(s bfdSession) bool { return s.neighbor == neighbor && s.device == device })
		if at < 0 {
			at = len(g.bfd)
			g.bfd = append(g.bfd, bfdSession{neighbor: neighbor, device: device, since: now})
		}
		s := &g.bfd[at]
		if s.status.State != status.State {
			s.since = now
		}
		s.status = status
	})
}

// describeBFD describes the sessions of a group for clients.
func (g *group) describeBFD(out *api.GroupState, now time.Duration) {
	for _, s := range g.bfd {
		x := api.BFDSession{Neighbor: s.neighbor, Interface: s.device, State: s.status.State.String(),
			AgeMS: (now - s.since).Milliseconds(), Diagnostic: diagnostic(s.status.Diag),
			TransmitMS: s.status.Transmit.Milliseconds(), DetectionMS: s.status.Detection.Milliseconds()}
		if s.status.Heard {
			x.NeighborState, x.NeighborDiagnostic = s.status.NeighborState.String(), diagnostic(s.status.NeighborDiag)
		}
		out.BFD = append(out.BFD, x)
	}
}

func diagnostic(d bfd.Diag) string {
	if d == bfd.NoDiagnostic {
		return ""
	}
	return d.String()
}
