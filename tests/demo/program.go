package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// program lets a program use what is written for tests: it is a lab.T.
type program struct {
	name string

	mu       sync.Mutex
	failed   bool
	cleanups []func()
	ctx      context.Context
}

// runAsTest runs f as "go test" would run a test, and reports whether it failed.
func runAsTest(name string, f func(*program)) (failed bool) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{name: name, ctx: ctx}
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

func (p *program) Helper()                  {}
func (p *program) Name() string             { return p.name }
func (p *program) Context() context.Context { return p.ctx }

func (p *program) Logf(format string, args ...any) {
	fmt.Fprintln(os.Stderr, strings.TrimSuffix(fmt.Sprintf(format, args...), "\n"))
}

func (p *program) Errorf(format string, args ...any) {
	p.Logf("FAILED: "+format, args...)
	p.mu.Lock()
	p.failed = true
	p.mu.Unlock()
}

func (p *program) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	runtime.Goexit()
}

func (p *program) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

func (p *program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

func (p *program) TempDir() string {
	dir, err := os.MkdirTemp("", filepath.Base(p.name)+"-")
	if err != nil {
		p.Fatalf("make a directory: %v", err)
	}
	p.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
