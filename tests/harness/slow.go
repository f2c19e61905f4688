package harness

import (
	"os"
	"strconv"
	"time"
)

const envSlow = "SASYNCD_SLOW"

// Slow says how many times as long everything may take, and how much less often
// packets are sent: 1, or more in a guest that emulates its processor. The
// environment variable SASYNCD_SLOW sets it. It is the only knob of that kind:
// intervals of elections, rates, limits and gaps measured all follow it.
func Slow() int {
	n, err := strconv.Atoi(os.Getenv(envSlow))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// Scaled is d in a guest that is [Slow].
func Scaled(d time.Duration) time.Duration { return d * time.Duration(Slow()) }

// slowness is the factor of a guest under qemu, unless the environment has one:
// what an emulated processor needs, and that with the race detector.
func (q *qemu) slowness() int {
	switch {
	case os.Getenv(envSlow) != "":
		return Slow()
	case hasKVM() && raceEnabled:
		return 2
	case hasKVM():
		return 1
	case raceEnabled:
		return 12
	default:
		return 4
	}
}
