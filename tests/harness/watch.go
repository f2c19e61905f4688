package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// watch starts a guest as a session of its own, copies what it writes to its
// third and fourth file to our output, and returns when all of it has ended,
// with the end of what it wrote to its first two. Its standard input is a pipe
// that shows when we die.
func watch(cmd *exec.Cmd, limit time.Duration, start func(*exec.Cmd) error) (console string, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	var log ring
	cmd.Stdout, cmd.Stderr = &log, &log
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	defer lifeline.Close()
	var copies sync.WaitGroup
	for _, to := range []*os.File{os.Stdout, os.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return "", err
		}
		defer w.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
		copies.Go(func() {
			defer r.Close()
			io.Copy(to, r)
		})
	}
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(sigs)
	if err := start(cmd); err != nil {
		return "", err
	}
	for _, w := range cmd.ExtraFiles {
		w.Close()
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var ending error
	select {
	case <-ended: // power-off and panic end it alike; the result file tells them apart
	case s := <-sigs:
		ending = fmt.Errorf("stopped by %v", s)
	case <-timer.C:
		ending = fmt.Errorf("not done after %v, killed", limit.Round(time.Second))
	}
	// Helper processes outlive the main one, so the group goes in any case.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		ending = errors.Join(ending, fmt.Errorf("kill the guest: %w", err))
	}
	if ending != nil {
		<-ended
	}
	copies.Wait()
	return log.String(), ending
}

// ring keeps the end of what is written to it.
type ring struct {
	mu sync.Mutex
	b  []byte
}

func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.b = append(r.b, p...)
	if n := len(r.b) - 3<<10; n > 0 {
		r.b = append([]byte(nil), r.b[n:]...)
	}
	return len(p), nil
}

func (r *ring) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(bytes.ReplaceAll(r.b, []byte("\r\n"), []byte("\n")))
}
