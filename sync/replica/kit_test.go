package replica

import (
	"io/fs"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
)

const testGroup = "carp1"

// tunnel returns the SAs and policies of the n-th tunnel.
var tunnel = sadbtest.Tunnel

// tables are a kernel's SAs.
type tables map[sadb.SAKey]*sadb.SA

// apply carries out an operation as a kernel does. Policies are nobody's concern here.
func (k tables) apply(op sadb.Op) error {
	if op.SA == nil {
		return nil
	}
	old := k[op.SA.Key]
	switch sa := *op.SA; op.Kind {
	case sadb.OpAddSA:
		if old != nil {
			return fs.ErrExist
		}
		k[sa.Key] = &sa
	case sadb.OpDeleteSA:
		if old == nil {
			return fs.ErrNotExist
		}
		delete(k, sa.Key)
	case sadb.OpUpdateSA, sadb.OpSetCounters:
		if old == nil {
			return fs.ErrNotExist
		}
		c := *old
		if op.Kind == sadb.OpUpdateSA {
			c.Limits = sa.Limits
		} else {
			c.OSeq, c.Seq, c.Bitmap = sa.OSeq, sa.Seq, sa.Bitmap
		}
		k[sa.Key] = &c
	}
	return nil
}

// snapshot returns what a dump shows.
func (k tables) snapshot() *sadb.Snapshot {
	s := &sadb.Snapshot{}
	for _, sa := range k {
		c := *sa
		s.SAs = append(s.SAs, &c)
	}
	return s
}
