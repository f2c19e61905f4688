package filter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Rules are the tables of the network namespace of the calling thread, and what they
// looked like when they were last set. Not for concurrent use.
type Rules struct {
	generation     uint32 // of the whole ruleset, when it was last found unchanged
	refused, lease look
}

// look is what a table looks like: nothing if there is none, otherwise what the kernel
// tells of it and its chains. It contains the handles, so a table that was removed and
// made anew looks different, and the number of rules of each chain.
type look []byte

// attempts to read a list that changes meanwhile.
const attempts = 5

// Changed reports whether somebody else has changed the table of Refuse or that of
// Lease since they were set, or removed it.
func (r *Rules) Changed() (refuse, lease bool, err error) {
	generation, err := rulesetGeneration()
	if err != nil || generation == r.generation {
		return false, false, err
	}
	changed := func(family uint8, want look) (bool, error) {
		if want == nil {
			return false, nil
		}
		have, _, err := lookAt(family)
		return !bytes.Equal(have, want), err
	}
	refuse, err = changed(unix.NFPROTO_INET, r.refused)
	if err == nil {
		lease, err = changed(unix.NFPROTO_NETDEV, r.lease)
	}
	if err == nil && !refuse && !lease {
		r.generation = generation
	}
	return refuse, lease, err
}

// remember keeps what a table looks like that was just set with so many rules; without
// any there is none. If somebody was quicker it looks changed.
func remember(family uint8, rules uint32) look {
	if rules == 0 {
		return nil
	}
	have, n, err := lookAt(family)
	if err != nil || n != rules {
		return look("changed meanwhile")
	}
	return have
}

// lookAt reads what the table of a family looks like and how many rules it has.
func lookAt(family uint8) (l look, rules uint32, err error) {
	name := text(unix.NFTA_TABLE_NAME, table)
	err = ask(unix.NFT_MSG_GETTABLE, family, 0, name, func(m message) { l = append(l, m.payload...) })
	if errors.Is(err, unix.ENOENT) {
		return look{}, 0, nil
	}
	for range attempts {
		if err != nil && !errors.Is(err, errInterrupted) {
			break
		}
		part := look(nil)
		rules = 0
		err = ask(unix.NFT_MSG_GETCHAIN, family, unix.NLM_F_DUMP, nil, func(m message) {
			attrs, perr := nl.ParseRouteAttr(m.payload)
			if perr != nil {
				return
			}
			ours, uses := false, uint32(0)
			for _, a := range attrs {
				switch a.Attr.Type &^ nested {
				case unix.NFTA_CHAIN_TABLE:
					ours = string(bytes.TrimRight(a.Value, "\x00")) == table
				case unix.NFTA_CHAIN_USE:
					if len(a.Value) == 4 {
						uses = binary.BigEndian.Uint32(a.Value)
					}
				}
			}
			if ours {
				part, rules = append(part, m.payload...), rules+uses
			}
		})
		if err == nil {
			return append(l, part...), rules, nil
		}
	}
	return nil, 0, fmt.Errorf("read table %s: %w", table, err)
}

// rulesetGeneration reads the number that each change of any table raises.
func rulesetGeneration() (id uint32, err error) {
	err = ask(unix.NFT_MSG_GETGEN, unix.AF_UNSPEC, 0, nil, func(m message) {
		attrs, perr := nl.ParseRouteAttr(m.payload)
		if perr != nil {
			return
		}
		for _, a := range attrs {
			if a.Attr.Type&^nested == unix.NFTA_GEN_ID && len(a.Value) == 4 {
				id = binary.BigEndian.Uint32(a.Value)
			}
		}
	})
	if err != nil {
		return 0, fmt.Errorf("read generation of rules: %w", err)
	}
	return id, nil
}

// errInterrupted: what was read changed meanwhile (NLM_F_DUMP_INTR).
var errInterrupted = errors.New("it changes all the time")
