package track

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A kernel that cannot be asked is no reason to demote, nor to take a demotion back.
func TestLinkCannotBeRead(t *testing.T) {
	var now error
	l := &linkCheck{look: func() error { return now }}
	gone := fmt.Errorf("look up interface: %w", netlink.LinkNotFoundError{})
	for i, step := range []struct{ now, want error }{
		{netlink.ErrDumpInterrupted, nil}, {nil, nil}, {unix.ENOBUFS, nil},
		{errCarrier, errCarrier}, {netlink.ErrDumpInterrupted, errCarrier}, {nil, nil},
		{gone, gone}, {unix.EMFILE, gone}, {nil, nil},
	} {
		now = step.now
		if got := l.check(t.Context()); !errors.Is(got, step.want) || (got == nil) != (step.want == nil) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}
