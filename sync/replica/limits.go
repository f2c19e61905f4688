package replica

import (
	"cmp"
	"slices"
	"time"

	"sasyncd/sync/sadb"
)

// hardGrace is added to time limits on a standby, in seconds. It must exceed
// the delay of a delta and the one second to which the kernel rounds ages.
const hardGrace = 5

// standbyLimits returns the limits of an SA as a standby installs it: no soft ones, which
// are the IKE daemon's business on the MASTER, and hard ones a little later.
func standbyLimits(l sadb.Limits) sadb.Limits {
	l = l.WithoutSoft()
	if l.HardAdd != 0 {
		l.HardAdd += hardGrace
	}
	if l.HardUse != 0 {
		l.HardUse += hardGrace
	}
	return l
}

// OldestFirst orders SAs for installation. With templates that carry no SPI
// the kernel sends on the SA that was installed last, so the newest must come
// last. A dump lists the newest first; equal ages keep that order reversed.
func OldestFirst[T any](list []T, age func(T) uint64) []T {
	out := slices.Clone(list)
	slices.Reverse(out)
	slices.SortStableFunc(out, func(a, b T) int { return cmp.Compare(age(b), age(a)) })
	return out
}

// ContactGrace is how long a complete standby stays in sync without contact: longer than
// carp's lostLimit.
const ContactGrace = 10 * time.Second

// TurnOps is how many operations of the kernel a turn has at most.
const TurnOps = 100

// TailRecords is how many deltas a standby remembers for that.
const TailRecords = 4096
