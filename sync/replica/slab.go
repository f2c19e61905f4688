package replica

import "sasyncd/sync/sadb"

// slabSAs is how many SAs one allocation of a slab holds, keepSlabs how many
// slabs are kept for the next batch: enough for a message of 1,000 counters.
const (
	slabSAs   = 128
	keepSlabs = 8
)

// slabs hands out the SAs that operations point to. They live until the
// operations are carried out, and there is one for each counter of each SA every
// second: making each anew would keep the collector busy with nothing else.
type slabs struct {
	list [][]sadb.SA
	used int
}

// next returns an SA with any content.
func (s *slabs) next() *sadb.SA {
	at := s.used / slabSAs
	if at == len(s.list) {
		s.list = append(s.list, make([]sadb.SA, slabSAs))
	}
	sa := &s.list[at][s.used%slabSAs]
	s.used++
	return sa
}

// CarriedOut ends the use of the SAs that operations of the receiver point to.
func (r *Receiver) CarriedOut() { r.slabs.reset() }

// reset takes back all that was handed out, and lets go what it pointed to, keys
// among it.
func (s *slabs) reset() {
	for i := 0; i < min(len(s.list), keepSlabs) && s.used > i*slabSAs; i++ {
		clear(s.list[i][:min(s.used-i*slabSAs, slabSAs)])
	}
	s.used = 0
	if len(s.list) > keepSlabs {
		clear(s.list[keepSlabs:])
		s.list = s.list[:keepSlabs]
	}
}
