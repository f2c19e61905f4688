package daemon

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	probeEvery = 15 * time.Second
	probeSize  = 4096 // bytes: more than any of the files has as a rule
)

// Watch finds out every 15 s whether the state directory can be written, until ctx
// ends: a disk that is full, or a file system that has become read-only, is told before
// something has to be remembered. What it finds, Trouble tells.
func (s *State) Watch(ctx context.Context) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		s.probe()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Trouble says why the state directory could not be written when Watch tried last, ""
// if it could. It never waits for the disk.
func (s *State) Trouble() string {
	if p := s.trouble.Load(); p != nil {
		return *p
	}
	return ""
}

func (s *State) probe() {
	why := ""
	path := s.path("probe")
	err := os.WriteFile(path, make([]byte, probeSize), 0o600)
	if rerr := os.Remove(path); err == nil {
		err = rerr
	}
	if err != nil {
		why = err.Error()
	}
	switch before := s.Trouble(); {
	case before == "" && why != "":
		s.log.Error("state directory cannot be written, what is remembered now is lost at the next start", "err", err)
	case before != "" && why == "":
		s.log.Info(fmt.Sprintf("state directory %s can be written again", s.dir))
	}
	s.trouble.Store(&why)
}
