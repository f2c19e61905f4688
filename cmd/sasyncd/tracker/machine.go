package tracker

import (
	"net/netip"

	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

// phase is what a group's fence and the engine have been told.
type phase uint8

const (
	unknown phase = iota
	backup
	preparing // the engine is closing the door behind the old master
	master
	yielded // the tracker says master, and another master is alive
)

// machine joins, for one group, what the tracker sees with what the engine
// wants. It is pure: every method returns what to do, in order.
//
// The order is that of carpd: before the fence opens, the engine must have
// stopped to write what another master says (prepare), or it could lower a
// counter that is sent from; when mastership is lost, the fence closes first.
// Terms are the engine's, which counts them where the election has none.
type machine struct {
	name string
	vips []netip.Addr
	// yields says that the fence is ours, so giving way means something.
	yields bool

	phase phase
	sight Sight
	asked int  // preparations that the engine has not answered
	other bool // a reachable member is MASTER
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
func (m *machine) see(s Sight) []action {
	same := m.phase != unknown && s.Master == m.sight.Master
	m.sight = s
	switch {
	case same:
		return nil
	case s.Master && (m.phase == unknown || m.phase == backup):
		return m.prepare()
	case s.Master:
		return nil
	}
	var out []action
	if m.phase != backup {
		out = append(out, action{fence: true})
	}
	m.phase = backup
	// Heard: it is the election itself that keeps this node from contending.
	return append(out, m.state(wire.RoleBackup, s.Reason), m.event(engine.ElectorEvent{Kind: engine.ElectorHeard}))
}

func (m *machine) prepare() []action {
	m.phase = preparing
	m.asked++
	return []action{m.event(engine.ElectorEvent{Kind: engine.ElectorPrepare, To: wire.RoleMaster, Reason: m.sight.Reason})}
}

// prepared is the engine's answer. An answer to a preparation that was given
// up since says nothing about the one under way.
func (m *machine) prepared() []action {
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
	if !m.yields || m.phase != master && m.phase != preparing {
		return nil
	}
	m.phase = yielded
	m.other = true // until the engine says otherwise
	return []action{{fence: true}, m.state(wire.RoleBackup, "gives way: "+reason)}
}

// members takes whether another member is master. When the one for which this
// node gave way no longer is, the tracker's word counts again.
func (m *machine) members(other bool) []action {
	was := m.other
	m.other = other
	if m.phase == yielded && was && !other {
		return m.prepare()
	}
	return nil
}
