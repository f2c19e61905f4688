// Package dump repeats readings of the kernel's tables that came out torn. A table
// that changes while it is read makes the kernel set NLM_F_DUMP_INTR in the rest of
// the answer (Documentation/userspace-api/netlink/intro.rst, "Dump consistency"):
// entries may be missing or there twice. Other programs that add and remove
// addresses or interfaces are enough for that, on whatever interface.
//
// A reading that stays torn says nothing. Who asked goes on with what was known
// before, and reads again soon.
package dump

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
)

// ErrInterrupted says that a table changed while it was read.
var ErrInterrupted = errors.New("the kernel's table changed while it was read")

const (
	tries      = 8
	firstPause = time.Millisecond // before the second try; it doubles
	// enough ends the tries of a table so large that each takes long.
	enough = time.Second
)

// Interrupted reports whether err is about a torn reading, by this package or by
// the netlink library.
func Interrupted(err error) bool {
	return errors.Is(err, ErrInterrupted) || errors.Is(err, netlink.ErrDumpInterrupted)
}

// Retry calls read until what it returns is not Interrupted: at most eight times,
// with pauses that double from 1 ms on, and not again after a second. It returns
// the last error. What read collects must begin anew with each call.
func Retry(read func() error) error {
	began := time.Now()
	for n, pause := 1, firstPause; ; n, pause = n+1, 2*pause {
		err := read()
		if !Interrupted(err) || n == tries || time.Since(began) >= enough {
			return err
		}
		time.Sleep(pause)
	}
}

// List is Retry for a function that returns a list. With an Interrupted error it
// returns what the last try has seen, which may lack entries.
func List[T any](read func() ([]T, error)) (list []T, err error) {
	err = Retry(func() (err error) {
		list, err = read()
		return err
	})
	return list, err
}
