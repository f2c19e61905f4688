package engine

import (
	"sync"
	"time"
)

type simElector struct {
	events   chan ElectorEvent
	mu       sync.Mutex
	prepared []uint64
	takeover []uint64
	silent   time.Duration // of the latest takeover
	resigned []string
	ready    map[string]Readiness
	held     []time.Duration // leases asked for, 0 ends one
	unable   error           // what Able and HoldBack answer
}

func (e *simElector) Prepared(_ string, t uint64) {
	e.mu.Lock()
	e.prepared = append(e.prepared, t)
	e.mu.Unlock()
}

func (e *simElector) Ready(g string, r Readiness) { e.mu.Lock(); e.ready[g] = r; e.mu.Unlock() }

func (e *simElector) Takeover(_ string, t uint64, silent time.Duration) {
	e.mu.Lock()
	e.takeover, e.silent = append(e.takeover, t), silent
	e.mu.Unlock()
}

// HoldBack and Able make it a Director.
func (e *simElector) HoldBack(_ string, d time.Duration, _ string, done func(error)) {
	e.mu.Lock()
	e.held = append(e.held, d)
	e.mu.Unlock()
	e.Able("", done)
}

func (e *simElector) Able(_ string, done func(error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	go done(e.unable)
}

func (e *simElector) refuse(why error) { e.mu.Lock(); e.unable = why; e.mu.Unlock() }

// leases returns and forgets the leases that were asked for.
func (e *simElector) leases() []time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.held
	e.held = nil
	return l
}

// takeovers returns and forgets the terms of which a take-over was ordered.
func (e *simElector) takeovers() []uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.takeover
	e.takeover = nil
	return t
}

// resignations returns how often this node was asked to give up.
func (e *simElector) resignations() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.resigned)
}

func (e *simElector) Resign(_, why string) {
	e.mu.Lock()
	e.resigned = append(e.resigned, why)
	e.mu.Unlock()
}
