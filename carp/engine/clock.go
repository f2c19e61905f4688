package engine

import (
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/api"
	"sasyncd/carp/link"
)

// jump is how far the time of day may move at once against the time since boot.
// A clock that is being slewed moves by less than a millisecond per second.
const jump = time.Second

// clock notices jumps of the time of day. Nothing here depends on it, but
// signed advertisements carry it and other daemons trust it.
type clock struct {
	offset time.Duration // time of day - time since boot; 0 not known yet
	jumps  uint64
	last   time.Duration
	at     time.Duration
}

// look compares the clocks. Called about once a second.
func (c *clock) look(now time.Duration) {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &ts)
	c.compare(now, time.Duration(ts.Nano())-link.BootTime())
}

func (c *clock) compare(now, offset time.Duration) {
	moved := offset - c.offset
	if c.offset != 0 && moved.Abs() > jump {
		c.jumps++
		c.last, c.at = moved, now
	}
	c.offset = offset
}

func (c *clock) report(now time.Duration) *api.Clock {
	if c.jumps == 0 {
		return &api.Clock{}
	}
	return &api.Clock{Jumps: c.jumps, LastMS: c.last.Milliseconds(), AgeMS: (now - c.at).Milliseconds()}
}
