package keying

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"sasyncd/sync/sadb"
)

// Sequence numbers of static keys. Nobody makes new keys when an SA is made
// anew, so a counter that began at 0 again would send numbers twice under the
// same key: receivers that look would refuse them, and whoever has recorded the
// first ones could have them accepted in place of the second. So each node keeps
// on disk, for each key, a bound above everything that it knows to have been
// sent, and an SA that is not in the kernel begins there.

// reserve is how far the remembered bound is ahead of the counter, in packets.
// It is what a cold start costs of the 4,026,531,840 that a key has.
const reserve = 1 << 20

// counted reports whether packets of the SA have sequence numbers.
func counted(sa *sadb.SA) bool { return sa.Key.Proto != sadb.ProtoComp }

// keyID names the keys of an SA without telling them. SPI and ends are no part of
// it: what must not come twice is a number under a key.
func keyID(sa *sadb.SA) string {
	h := sha256.New()
	fmt.Fprintf(h, "sasyncd static key\n%d\n", sa.Key.Proto)
	for _, a := range []*sadb.Algorithm{sa.Auth, sa.Crypt} {
		if a == nil {
			fmt.Fprintln(h, "-")
			continue
		}
		fmt.Fprintf(h, "%s %d ", a.Name, a.Key.Len())
		h.Write(a.Key.Bytes())
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// number gives SAs the counters to begin with. Those that must not be made are
// left out, with the reasons.
func (s *Static) number(sas []*sadb.SA, outbound func(*sadb.SA) bool) (out []*sadb.SA, errs []error) {
	for _, sa := range sas {
		c := *sa
		if outbound(sa) {
			bound, err := s.Numbers.Bound(keyID(sa))
			if first, ok := s.unused[keyID(sa)]; ok && first > 0 {
				bound = first
			}
			switch start := max(bound, s.Start); {
			case err != nil:
				errs = append(errs, fmt.Errorf("load %s: %w", sa.Key, err))
				continue
			case start >= sadb.MaxLegacy:
				errs = append(errs, fmt.Errorf("load %s: its keys are used up: write new ones in %s and on the "+
					"other side", sa.Key, s.File))
				continue
			case bound == 0:
				c.OSeq = s.Start
			default:
				c.OSeq = bound
			}
		}
		out = append(out, &c)
	}
	return out, errs
}

// remember sees to it that the bounds are ahead of the counters of sas.
func (s *Static) remember(sas []*sadb.SA) error {
	raise := make(map[string]uint64)
	for _, sa := range sas {
		if sa.OSeq == 0 || !counted(sa) {
			continue // inbound
		}
		id := keyID(sa)
		bound, err := s.Numbers.Bound(id)
		if err != nil {
			return err
		}
		if sa.OSeq+reserve/2 > bound {
			// Twice what it was too slow for, where the bound was passed.
			late := uint64(0)
			if bound != 0 && sa.OSeq > bound {
				late = min(2*(sa.OSeq-bound), 64*reserve)
			}
			raise[id] = max(raise[id], sa.OSeq+reserve+late)
		}
	}
	if len(raise) == 0 {
		return nil
	}
	return s.Numbers.Raise(raise)
}

// usedUp warns of keys that have three quarters of their numbers behind them.
func usedUp(sas []*sadb.SA) (lint []Lint) {
	for _, sa := range sas {
		if sa.OSeq > sadb.MaxLegacy/4*3 && !sa.ESN() && len(lint) < 3 {
			lint = append(lint, Lint{fmt.Sprintf("%s has used %d %% of its sequence numbers", sa.Key,
				100*sa.OSeq/sadb.MaxLegacy),
				"write new keys and a new spi for it, here and on the other side"})
		}
	}
	return lint
}
