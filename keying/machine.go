package keying

import (
	"errors"
	"fmt"
	"time"
)

// State of the machine.
type State uint8

// States. Boot is left by the first order.
const (
	Boot State = iota
	Passive
	Activating
	Active
	Passivating
)

// String returns the state in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

var stateNames = [...]string{"boot", "passive", "activating", "active", "passivating"}

// Why an order was not carried out.
var (
	ErrStale      = errors.New("order belongs to an older term")
	ErrSuperseded = errors.New("order was superseded by a later one")
	// ErrNotRunning: there is no IKE daemon.
	ErrNotRunning = errors.New("ike daemon is not running")
)

// EventKind says what happened.
type EventKind uint8

// Events of the machine.
const (
	EventPassive EventKind = iota + 1 // order; PassiveOrder, Waiter
	EventActive                       // order; Plan
	EventDone                         // the driver has finished Call, with Err
	EventLost                         // the daemon has gone
	EventBack                         // the daemon runs
	EventTick                         // the deadline has been reached
)

// Event is one input of the machine.
type Event struct {
	Kind         EventKind
	PassiveOrder PassiveOrder
	Plan         Plan
	Waiter       int // who is to be told how EventPassive ended; 0: nobody
	Call         int
	Err          error
}

// ActionKind says what to do.
type ActionKind uint8

// Actions of the machine.
const (
	ActionPassive ActionKind = iota + 1 // call Driver.Passive as Call
	ActionActive                        // call Driver.Active as Call
	ActionCancel                        // end the context of Call; EventDone is still due
	ActionAnswer                        // tell Waiter that its order ended with Err
)

// Action is one output of the machine.
type Action struct {
	Kind         ActionKind
	Call         int
	PassiveOrder PassiveOrder
	Plan         Plan
	Waiter       int
	Err          error
}

// Pause before a failed call is repeated: doubled from the first to the last.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 15 * time.Second
)

// Machine decides which call of the driver comes next. There is at most one at
// a time; the latest order counts, an order of an older term is dropped, what
// failed is repeated, and the order in force is repeated when the daemon comes
// back. It is pure: time is an argument and actions are for the caller.
type Machine struct {
	state State
	term  uint64
	order PassiveOrder
	plan  Plan

	call    int        // number of the call under way, 0 for none
	kind    ActionKind // of it
	calls   int        // how many were made
	again   bool       // repeat the order after the call under way
	waiters []int
	tries   int // failures in a row
	retry   time.Time
	err     error // of the last call; nil when it succeeded
}

// State returns the current state.
func (m *Machine) State() State { return m.state }

// Term returns the term of the order in force.
func (m *Machine) Term() uint64 { return m.term }

// Err returns why the last call failed, nil if it did not.
func (m *Machine) Err() error { return m.err }

// Deadline returns when EventTick is due; zero for never.
func (m *Machine) Deadline() time.Time {
	if m.call != 0 {
		return time.Time{}
	}
	return m.retry
}

// Step takes in one event and returns what to do, in order.
func (m *Machine) Step(now time.Time, ev Event) []Action {
	switch ev.Kind {
	case EventPassive:
		return m.passive(ev)
	case EventActive:
		return m.active(ev)
	case EventDone:
		return m.done(now, ev)
	case EventLost:
		switch m.state {
		case Active:
			m.state = Activating
			m.fail(now, ErrNotRunning)
		case Passive:
			// It is silent, and may have to be started: NAT-T needs its socket.
			m.state, m.tries = Passivating, 0
			return m.start()
		}
	case EventBack:
		return m.back()
	case EventTick:
		if m.call == 0 && !m.retry.IsZero() && !now.Before(m.retry) {
			return m.start()
		}
	}
	return nil
}

func (m *Machine) passive(ev Event) []Action {
	h := ev.PassiveOrder
	if h.Term < m.term {
		return answer(nil, ev.Waiter, ErrStale)
	}
	wanted := m.wantsPassive()
	same := wanted && (m.order.Settled || !h.Settled)
	h.Settled = h.Settled || wanted && m.order.Settled
	m.term, m.order = h.Term, h
	if same && m.state == Passive {
		return answer(nil, ev.Waiter, nil)
	}
	m.state = Passivating
	if ev.Waiter != 0 {
		m.waiters = append(m.waiters, ev.Waiter)
	}
	switch {
	case m.call == 0:
		m.tries = 0
		return m.start()
	case m.kind == ActionActive:
		return []Action{{Kind: ActionCancel, Call: m.call}}
	case !same:
		m.again = true
	}
	return nil
}

func (m *Machine) active(ev Event) []Action {
	if ev.Plan.Term < m.term {
		return nil
	}
	if m.wantsActive() && m.plan.Equal(ev.Plan) {
		return nil
	}
	acts := m.answerAll(nil, ErrSuperseded)
	m.term, m.plan = ev.Plan.Term, ev.Plan
	m.state = Activating
	switch {
	case m.call == 0:
		m.tries = 0
		return append(acts, m.start()...)
	case m.kind == ActionActive:
		m.again = true
		return append(acts, Action{Kind: ActionCancel, Call: m.call})
	}
	return acts // a call of Passive is never cut short
}

func (m *Machine) done(now time.Time, ev Event) []Action {
	if ev.Call != m.call || m.call == 0 {
		return nil
	}
	m.call = 0
	turned := m.wantsPassive() != (m.kind == ActionPassive)
	if turned || m.again {
		var acts []Action
		if !turned && m.kind == ActionPassive && ev.Err == nil {
			acts = m.answerAll(nil, nil)
		}
		m.tries, m.err = 0, nil
		return append(acts, m.start()...)
	}
	m.err = ev.Err
	if ev.Err != nil {
		acts := m.answerAll(nil, ev.Err)
		m.fail(now, ev.Err)
		return acts
	}
	m.tries, m.retry = 0, time.Time{}
	if m.kind == ActionActive {
		m.state = Active
		return nil
	}
	m.state = Passive
	return m.answerAll(nil, nil)
}

// back repeats the order in force: a daemon that starts knows of none.
func (m *Machine) back() []Action {
	switch {
	case m.state == Boot:
		return nil
	case m.call != 0:
		m.again = true
		return nil
	case m.wantsActive():
		m.state = Activating
	default:
		m.state = Passivating
	}
	m.tries = 0
	return m.start()
}

// start makes the call that the order in force asks for.
func (m *Machine) start() []Action {
	m.calls++
	m.call, m.again, m.retry = m.calls, false, time.Time{}
	if m.wantsActive() {
		m.kind = ActionActive
		return []Action{{Kind: ActionActive, Call: m.call, Plan: m.plan}}
	}
	m.kind = ActionPassive
	return []Action{{Kind: ActionPassive, Call: m.call, PassiveOrder: m.order}}
}

// fail plans a repetition.
func (m *Machine) fail(now time.Time, err error) {
	m.err = err
	m.retry = now.Add(min(firstRetry<<min(m.tries, 10), lastRetry))
	m.tries++
}

func (m *Machine) wantsPassive() bool { return m.state == Passive || m.state == Passivating }
func (m *Machine) wantsActive() bool  { return m.state == Active || m.state == Activating }

func (m *Machine) answerAll(acts []Action, err error) []Action {
	for _, w := range m.waiters {
		acts = answer(acts, w, err)
	}
	m.waiters = nil
	return acts
}

func answer(acts []Action, waiter int, err error) []Action {
	if waiter == 0 {
		return acts
	}
	return append(acts, Action{Kind: ActionAnswer, Waiter: waiter, Err: err})
}
