package nodes

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"sasyncd/tests/harness/lab"
)

// guest is what the services in one machine share: package lab reports to it,
// and what fails in the course of a call is the call's error.
type guest struct {
	*lab.Program

	mu     sync.Mutex
	failed []string
}

func newGuest() *guest {
	ch := make(chan *lab.Program)
	go lab.RunProgram("machine", func(p *lab.Program) {
		ch <- p
		select {} // until the power goes
	})
	return &guest{Program: <-ch}
}

// Errorf notes a failure.
func (g *guest) Errorf(format string, args ...any) {
	g.mu.Lock()
	g.failed = append(g.failed, strings.TrimSpace(fmt.Sprintf(format, args...)))
	g.mu.Unlock()
	g.Program.Errorf(format, args...)
}

// Fatalf is Errorf and ends the calling goroutine.
func (g *guest) Fatalf(format string, args ...any) {
	g.mu.Lock()
	g.failed = append(g.failed, strings.TrimSpace(fmt.Sprintf(format, args...)))
	g.mu.Unlock()
	g.Program.Fatalf(format, args...)
}

// failures returns what has failed since the last call.
func (g *guest) failures() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := g.failed
	g.failed = nil
	return list
}

// try runs f, which may end its goroutine, and returns what failed.
func (g *guest) try(f func()) error {
	done := make(chan bool)
	go func() {
		completed := false
		defer func() { done <- completed }()
		f()
		completed = true
	}()
	if completed := <-done; completed {
		return nil
	}
	return errors.New(strings.Join(g.failures(), "; "))
}
