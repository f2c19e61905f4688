package keying

import (
	"time"
)

// tunnel is one thing to negotiate.
type tunnel struct {
	conn, child string
	remote      string // responders limit half-open IKE SAs by address
}

// tunnelID tells tunnels apart.
type tunnelID struct{ conn, child string }

func (t tunnel) id() tunnelID { return tunnelID{t.conn, t.child} }

// Times of a negotiation.
const (
	slotTime   = 5 * time.Second  // after which a silent remote no longer holds up its others
	bornTime   = time.Second      // within which the daemon must show that it has begun
	giveUpTime = 60 * time.Second // after which a negotiation counts as failed
)

// pacer says which tunnels to initiate when: at most perRemote with one remote
// under way. It is pure.
type pacer struct {
	perRemote int
	tried     map[tunnelID]time.Time
	failed    map[tunnelID]string // and why
}

func newPacer(perRemote int) *pacer {
	if perRemote == 0 {
		perRemote = 2
	}
	return &pacer{perRemote: perRemote, tried: make(map[tunnelID]time.Time), failed: make(map[tunnelID]string)}
}

// step takes in what is wanted, what is up, and what the daemon works on, and
// returns what to initiate now.
func (p *pacer) step(now time.Time, wanted []tunnel, up, busy map[tunnelID]bool) ([]tunnel, Outcome) {
	out := Outcome{Wanted: len(wanted)}
	slots := make(map[string]int)
	var idle []tunnel
	for _, t := range wanted {
		id := t.id()
		began, tried := p.tried[id]
		age := now.Sub(began)
		switch {
		case up[id]:
			out.Up++
			delete(p.failed, id)
		case p.failed[id] != "":
			out.Failed++
		case !tried:
			idle = append(idle, t)
		case !busy[id] && age > bornTime:
			p.failed[id] = "the remote refused or does not answer"
			out.Failed++
		case age > giveUpTime:
			p.failed[id] = "not up within " + giveUpTime.String()
			out.Failed++
		default:
			out.Pending++
			if age < slotTime {
				slots[t.remote]++
			}
		}
	}
	var start []tunnel
	for _, t := range idle {
		if slots[t.remote] >= p.perRemote {
			continue
		}
		slots[t.remote]++
		p.tried[t.id()] = now
		out.Pending++
		start = append(start, t)
	}
	return start, out
}

// refuse notes that the daemon itself would not initiate a tunnel.
func (p *pacer) refuse(t tunnel, why string) { p.failed[t.id()] = why }

// done reports whether nothing is left to wait for.
func (o Outcome) done() bool { return o.Up+o.Failed >= o.Wanted }
