package result

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Cost is what this machine takes for what a daemon cannot do without.
type Cost struct{ Syscall, Clock, Touch time.Duration }

// Measure runs loops of some milliseconds each, the best of five: what else the
// machine does makes them longer, never shorter.
func Measure() Cost {
	best := func(n int, loop func(n int)) time.Duration {
		least := time.Duration(1<<63 - 1)
		for range 5 {
			began := time.Now()
			loop(n)
			least = min(least, time.Since(began)/time.Duration(n))
		}
		return least
	}
	return Cost{
		Syscall: best(2000, func(n int) {
			for range n {
				unix.Getppid()
			}
		}),
		Clock: best(2000, func(n int) {
			for range n {
				_ = time.Now()
			}
		}),
		Touch: best(1000, func(n int) {
			page := unix.Getpagesize()
			b, err := unix.Mmap(-1, 0, n*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return
			}
			for i := 0; i < len(b); i += page {
				b[i] = 1
			}
			_ = unix.Munmap(b)
		}),
	}
}

// Lines compares a guest with its host.
func (c Cost) Lines(host Cost) (list []Line) {
	us := func(d time.Duration) string { return fmt.Sprintf("%.2f us", float64(d)/1e3) }
	for _, x := range []struct {
		what        string
		here, there time.Duration
	}{
		{"a system call", c.Syscall, host.Syscall},
		{"a look at the clock", c.Clock, host.Clock},
		{"the first touch of a page", c.Touch, host.Touch},
	} {
		list = append(list, Line{What: "cost of " + x.what + ", guest beside host", Figure: us(x.here),
			Floor: us(x.there),
			Ratio: float64(x.here) / float64(max(x.there, 1)), Verdict: Beside})
	}
	return list
}
