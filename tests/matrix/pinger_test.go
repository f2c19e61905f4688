package matrix

import (
	"sync"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// pinger pings through the tunnels, for times when clocks cannot be trusted.
type pinger struct {
	stop chan struct{}
	done chan struct{}
	mu   sync.Mutex
	last time.Time
	gap  time.Duration
	n    int
}

func startPinger(p *scenario.Pair) *pinger {
	g := &pinger{stop: make(chan struct{}), done: make(chan struct{}), last: time.Now()}
	go func() {
		defer close(g.done)
		for {
			select {
			case <-g.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if p.H1.Ping(lab.H2Addr, 3*time.Second) == nil {
				g.mu.Lock()
				g.gap = max(g.gap, time.Since(g.last)) // of the monotonic clock
				g.last, g.n = time.Now(), g.n+1
				g.mu.Unlock()
			}
		}
	}()
	return g
}

func (g *pinger) answered() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

func (g *pinger) end() {
	close(g.stop)
	<-g.done
}
