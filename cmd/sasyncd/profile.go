//go:build profile

package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
)

// profile lets "make bench" look inside: SIGUSR2 begins a CPU profile and the
// next one ends it and writes it, with one of the heap, below the directory that
// SASYNCD_PROFILE names. Only a build with the tag "profile" has it; without
// the directory it does nothing.
func profile(log *slog.Logger) {
	dir := os.Getenv("SASYNCD_PROFILE")
	if dir == "" {
		return
	}
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, syscall.SIGUSR2)
	go func() {
		for n := 1; ; n++ {
			<-sigs
			if err := profileOnce(filepath.Join(dir, fmt.Sprintf("%d.%d", os.Getpid(), n)), sigs); err != nil {
				log.Error("write profile", "err", err)
			}
		}
	}()
}

func profileOnce(name string, end <-chan os.Signal) error {
	cpu, err := os.Create(name + ".cpu")
	if err != nil {
		return err
	}
	defer cpu.Close()
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	<-end
	pprof.StopCPUProfile()
	runtime.GC()
	heap, err := os.Create(name + ".heap")
	if err != nil {
		return err
	}
	defer heap.Close()
	return pprof.WriteHeapProfile(heap)
}
