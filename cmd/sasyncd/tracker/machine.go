package tracker

import (
	"net/netip"
	"time"

	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

// phase is what a group's fence and the engine have been told.
type phase uint8

const (
	unknown   phase = iota
	backup          // fence set
	waiting         // the tracker says master, and this node lacks what another holds; fence set
	preparing       // the engine is closing the door behind the old master; fence set
	master          // fence open
	lingering       // the tracker has taken mastership away; fence set, the engine hands over
	yielded         // the tracker says master, and another master is alive; fence set
)

const (
	// settle is how long after the start a node that has not heard all members
	// may learn that one of them holds more than it does.
	settle = 5 * time.Second
	// waitLimit is how long a node that lacks what another member holds is kept
	// from the mastership which it has been given. The other one can serve it
	// that long (lingerLimit), unless it is not there any more.
	waitLimit   = 15 * time.Second
	lingerLimit = 10 * time.Second
)

// handOver stands in place of a term where the engine is to hand over. It comes
// back with the answer, for which nobody waits and which may not come at all.
const handOver = 1

// machine joins, for one group, what the tracker sees with what the engine
// wants. It is pure: every method returns what to do, in order.
//
// The order is that of carpd: before the fence opens, the engine must have
// stopped to write what another master says (prepare), or it could lower a
// counter that is sent from; when mastership is lost, the fence closes first.
// Terms are the engine's, which counts them where the election has none.
//
// What carpd has and another election lacks is that it asks who is fit. A node
// that comes back empty and is elected at once would have the others delete
// what it lacks. So a node which has lost mastership goes on to serve its tables
// behind the fence until another has taken over, and one which is elected before
// it has those tables fetches them first.
type machine struct {
	name string
	vips []netip.Addr
	// yields says that the fence is ours, so giving way means something.
	yields bool
	// started is when this process began to follow, and empty that the kernel
	// had nothing of the group then.
	started time.Time
	empty   bool

	phase phase
	since time.Time // of waiting or lingering
	sight Observation
	asked int // preparations to be master that the engine has not answered
	ready engine.Readiness
}

// action is one step that the runner takes: fence or unfence the group's
// addresses, or tell the engine.
type action struct {
	fence, unfence bool
	tell           engine.ElectorEvent
}

func (m *machine) event(ev engine.ElectorEvent) action {
	ev.Group = m.name
	return action{tell: ev}
}

func (m *machine) state(role wire.Role, reason string) action {
	return m.event(engine.ElectorEvent{Kind: engine.ElectorState, Role: role, VIPs: m.vips, Reason: reason})
}

// see takes what the tracker says.
func (m *machine) see(now time.Time, s Observation) []action {
	m.sight = s
	if s.Master {
		switch m.phase {
		case unknown:
			if m.empty { // a boot at which the election was faster
				out := append([]action{{fence: true}}, m.stepDown()...)
				return append(out, m.elected(now)...)
			}
			return m.prepare() // a restart of sasyncd; the node was master before
		case backup:
			return m.elected(now)
		case lingering: // and nobody else has taken over
			m.phase = master
			return []action{m.event(engine.ElectorEvent{Kind: engine.ElectorCancel}), {unfence: true}}
		}
		return nil
	}
	switch m.phase {
	case unknown, preparing, yielded:
		return append([]action{{fence: true}}, m.stepDown()...)
	case waiting:
		m.phase = backup
	case master:
		if m.ready.Master {
			return append([]action{{fence: true}}, m.stepDown()...)
		}
		m.phase, m.since = lingering, now
		return []action{{fence: true}, m.event(engine.ElectorEvent{Kind: engine.ElectorPrepare, To: wire.RoleBackup,
			Term: handOver, Reason: s.Reason})}
	}
	return nil
}

// stepDown makes the engine a standby.
func (m *machine) stepDown() []action {
	m.phase = backup
	// Heard: it is the election itself that keeps this node from contending.
	return []action{m.state(wire.RoleBackup, m.sight.Reason), m.event(engine.ElectorEvent{Kind: engine.ElectorHeard})}
}

// elected begins the mastership that the tracker has given, or the wait for it.
func (m *machine) elected(now time.Time) []action {
	if m.fit(now) {
		return m.prepare()
	}
	m.phase, m.since = waiting, now
	return nil
}

// fit reports whether this node has what there is.
func (m *machine) fit(now time.Time) bool {
	return m.ready.InSync || !m.ready.Behind && now.Sub(m.started) >= settle
}

func (m *machine) prepare() []action {
	m.phase = preparing
	m.asked++
	return []action{m.event(engine.ElectorEvent{Kind: engine.ElectorPrepare, To: wire.RoleMaster,
		Reason: m.sight.Reason})}
}

// prepared is the engine's answer. An answer to a preparation that was given
// up since says nothing about the one under way.
func (m *machine) prepared(term uint64) []action {
	if term == handOver {
		return nil
	}
	if m.asked--; m.asked > 0 || m.phase != preparing {
		return nil
	}
	m.phase = master
	return []action{{unfence: true}, m.state(wire.RoleMaster, m.sight.Reason)}
}

// resign is the engine's wish to give way to another master. Whoever elected
// this node cannot be asked, but the fence can be closed, so that one of the
// two is silent.
func (m *machine) resign(reason string) []action {
	switch {
	case m.phase == lingering:
		return m.stepDown()
	case !m.yields || m.phase != master && m.phase != preparing:
		return nil
	}
	m.phase = yielded
	m.ready.Master = true // until the engine says otherwise
	return []action{{fence: true}, m.state(wire.RoleBackup, "gives way: "+reason)}
}

// readiness takes what the engine says of this node and of the others. When the
// master for which this node gave way no longer is, the tracker's word counts
// again.
func (m *machine) readiness(now time.Time, r engine.Readiness) []action {
	was := m.ready
	m.ready = r
	switch {
	case m.phase == lingering && r.Master:
		return m.stepDown()
	case m.phase == yielded && was.Master && !r.Master:
		return m.elected(now)
	}
	return m.tick(now)
}

// tick does what time asks for.
func (m *machine) tick(now time.Time) []action {
	switch {
	case m.phase == waiting && (m.fit(now) || now.Sub(m.since) >= waitLimit):
		return m.prepare()
	case m.phase == lingering && now.Sub(m.since) >= lingerLimit:
		return m.stepDown()
	}
	return nil
}
