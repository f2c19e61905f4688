package peer

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"sasyncd/sync/wire"
)

// TestClosingsAreCounted: by reason, malformed frames apart from lost ones.
func TestClosingsAreCounted(t *testing.T) {
	var m Manager
	_, _, err := wire.Read(endless{}, nil)
	m.closed.lost(fmt.Errorf("connection: %w", err))
	m.closed.lost(io.ErrUnexpectedEOF)
	m.closed.lost(nil)
	m.closed.bye(wire.ByeProtocol)
	m.closed.bye(wire.ByeProtocol)
	m.closed.bye(999) // no reason of ours
	got := map[string]uint64{}
	m.Closed(func(reason string, n uint64) { got[reason] = n })
	if got["malformed"] != 1 || got["protocol"] != 2 || got["timeout"] != 0 || len(got) != 11 {
		t.Errorf("counted %v (of %v)", got, err)
	}
	if !errors.Is(err, wire.ErrUnknownType) {
		t.Errorf("error is %v", err)
	}
}

// endless is zeros: a frame of type 0, which there is not.
type endless struct{}

func (endless) Read(b []byte) (int, error) { clear(b); return len(b), nil }
