package main

import (
	"context"
	"errors"
	"time"

	"sasyncd/sync/engine"
)

// lockedElector is `mode master` and `mode slave`: the role never changes.
type lockedElector struct {
	events chan engine.ElectorEvent
}

func newLockedElector(states []engine.ElectorEvent) *lockedElector {
	e := &lockedElector{events: make(chan engine.ElectorEvent, len(states))}
	for _, s := range states {
		e.events <- s
	}
	return e
}

// Events implements engine.Elector.
func (e *lockedElector) Events() <-chan engine.ElectorEvent { return e.events }

// Run implements the task.
func (e *lockedElector) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// HandOver implements elector.
func (e *lockedElector) HandOver(context.Context, string) error {
	return errors.New("the role is locked by `mode` in the configuration")
}

// Prepared, Ready, Takeover and Resign have nobody to tell.
func (e *lockedElector) Prepared(string, uint64)                {}
func (e *lockedElector) Ready(string, engine.Readiness)         {}
func (e *lockedElector) Takeover(string, uint64, time.Duration) {}
func (e *lockedElector) Resign(string, string)                  {}
