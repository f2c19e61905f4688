package peer

import (
	"errors"
	"sync/atomic"

	"sasyncd/sync/wire"
)

// closings count the connections that this node ended.
type closings struct {
	said      [wire.ByeTimeout + 1]atomic.Uint64
	malformed atomic.Uint64
}

func (c *closings) bye(code wire.ByeCode) {
	if int(code) < len(c.said) {
		c.said[code].Add(1)
	}
}

func (c *closings) lost(err error) {
	if m := (*wire.MalformedError)(nil); errors.As(err, &m) {
		c.malformed.Add(1)
	}
}

// Closed calls f with every reason for which this node has ended connections to
// peers that hold the key, and how often: malformed for frames that are no
// message, else the words of wire.ByeCode.
func (m *Manager) Closed(f func(reason string, n uint64)) {
	f("malformed", m.closed.malformed.Load())
	for code := wire.ByeShutdown; code <= wire.ByeTimeout; code++ {
		f(code.String(), m.closed.said[code].Load())
	}
}
