package lab

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
)

// Program lets a program use what is written for tests: it is a [T].
type Program struct {
	name string

	mu       sync.Mutex
	failed   bool
	cleanups []func()
	ctx      context.Context
}

// RunProgram runs f as "go test" would run a test, and reports whether it failed.
func RunProgram(name string, f func(*Program)) (failed bool) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Program{name: name, ctx: ctx}
	done := make(chan struct{})
	go func() { // of its own, because Fatalf ends it
		defer close(done)
		f(p)
	}()
	<-done
	cancel()
	for len(p.cleanups) > 0 {
		last := p.cleanups[len(p.cleanups)-1]
		p.cleanups = p.cleanups[:len(p.cleanups)-1]
		done := make(chan struct{})
		go func() {
			defer close(done)
			last()
		}()
		<-done
	}
	return p.Failed()
}

// Helper does nothing.
func (p *Program) Helper() {}

// Name is the program's.
func (p *Program) Name() string { return p.name }

// Context ends when f does.
func (p *Program) Context() context.Context { return p.ctx }

// Logf writes a line to standard error.
func (p *Program) Logf(format string, args ...any) {
	fmt.Fprintln(os.Stderr, strings.TrimSuffix(fmt.Sprintf(format, args...), "\n"))
}

// Errorf is Logf and notes a failure.
func (p *Program) Errorf(format string, args ...any) {
	p.Logf("FAILED: "+format, args...)
	p.mu.Lock()
	p.failed = true
	p.mu.Unlock()
}

// Fatalf is Errorf and ends f.
func (p *Program) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	runtime.Goexit()
}

// Failed reports whether a failure was noted.
func (p *Program) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// Cleanup has f called at the end, the latest first.
func (p *Program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}
