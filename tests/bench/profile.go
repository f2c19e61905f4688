package main

import (
	"os"
	"syscall"
	"time"

	"sasyncd/tests/cluster"
)

// With BENCH_PROFILE set the daemons are built with the tag "profile" and leave
// a profile of the processor and of the heap for each part, in the directory
// for artifacts whose name the harness prints at the end: PID.N.cpu and PID.N.heap.
// Figures are then somewhat worse.
func profiling() bool { return os.Getenv("BENCH_PROFILE") != "" }

// profile begins a profile of the daemons and returns what ends it.
func profile(nodes ...*cluster.Node) (end func()) {
	if !profiling() {
		return func() {}
	}
	signal := func() {
		for _, nd := range nodes {
			nd.Daemon.Signal(syscall.SIGUSR2)
		}
	}
	signal()
	return func() {
		signal()
		time.Sleep(2 * time.Second) // until they are written
	}
}
