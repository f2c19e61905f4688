package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Outage tells for how long nobody is MASTER of Group, in whole microseconds. Of
// a master that hands over, as soon as it is fenced and again before its Handover: for how
// long it has been fenced, and Term is the one that it gives up. A standby that hears it
// puts off what can wait. Over, of the new master, before its State:
// from the last sign of the old one until the new one had the virtual addresses
// and no fence, and Term is its own. The figure is for people: nothing depends on it.
type Outage struct {
	Group string
	Term  uint64
	Gap   time.Duration // not negative
	Over  bool
}

// Type implements Message.
func (*Outage) Type() Type { return TypeOutage }

func (m *Outage) appendBody(b []byte) (_ []byte, err error) {
	if b, err = appendName(b, m.Group); err != nil {
		return b, fmt.Errorf("group: %w", err)
	}
	if m.Gap < 0 {
		return b, fmt.Errorf("gap of %v is negative", m.Gap)
	}
	b = binary.BigEndian.AppendUint64(b, m.Term)
	return appendBool(binary.BigEndian.AppendUint64(b, uint64(m.Gap.Microseconds())), m.Over), nil
}

func (m *Outage) parseBody(r *reader) {
	m.Group, m.Term = r.name("group name"), r.term()
	us := r.u64("gap")
	if us > math.MaxInt64/uint64(time.Microsecond) {
		r.fail("gap of %d µs is too long", us)
		return
	}
	m.Gap, m.Over = time.Duration(us)*time.Microsecond, r.bool("over")
}
