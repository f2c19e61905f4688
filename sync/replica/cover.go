package replica

import (
	"hash/maphash"

	"sasyncd/sync/sadb"
)

// A deletion ends a rekey, and not a tunnel, if a younger SA protects the same
// traffic and stays. An older SA does not count, since a rekey deletes the older
// one; an SA that is gone from the kernel, or whose deletion is held back, does
// not count either. So p.cover lists, for each coverKey, the SAs that the kernel
// holds, the youngest first.

// coverKey is what an SA protects: two SAs with equal keys are generations of
// one tunnel, so that deleting one leaves its traffic covered by the other.
type coverKey struct {
	src, dst  sadb.Bytes16
	family    sadb.Family
	proto     uint8
	mode      sadb.Mode
	reqid     uint32
	selector  sadb.Selector
	mark      sadb.Mark
	ifID      uint32
	direction sadb.Direction
}

// coverSeed makes the hashes of coverOf this process's own.
var coverSeed = maphash.MakeSeed()

// coverOf returns a hash of the SA's coverKey, which is too large to be kept for
// each of many SAs. Two that are equal by chance cost no more than a deletion
// that is forwarded at once.
//
// A remote end behind a NAT may be elsewhere in the next generation, so its
// address does not count where the reqid tells tunnels apart.
func coverOf(sa *sadb.SA) uint64 {
	k := coverKey{sadb.Raw(sa.Src), sadb.Raw(sa.Key.Dst), sa.Key.Family(), sa.Key.Proto,
		sa.Mode, sa.Reqid, sa.Selector, sa.Key.Mark, sa.IfID, sa.Dir}
	switch {
	case sa.Encap == nil || sa.Reqid == 0:
	case sa.Dir == sadb.DirIn:
		k.src = sadb.Bytes16{}
	default:
		k.dst = sadb.Bytes16{}
	}
	return maphash.Comparable(coverSeed, k)
}

// coverAgain puts e into the list of its cover, by the order of publication, which
// handles keep.
func (p *Publisher) coverAgain(e *pubSA) {
	if e.covers {
		return
	}
	k := coverOf(e.sa)
	e.covers, e.younger, e.older = true, nil, p.cover[k]
	for e.older != nil && e.older.handle > e.handle {
		e.younger, e.older = e.older, e.older.older
	}
	if e.older != nil {
		e.older.younger = e
	}
	if e.younger != nil {
		e.younger.older = e
	} else {
		p.cover[k] = e
	}
}

// uncover takes e out of the list of its cover: it is gone or about to go.
func (p *Publisher) uncover(e *pubSA) {
	if !e.covers {
		return
	}
	if e.older != nil {
		e.older.younger = e.younger
	}
	switch k := coverOf(e.sa); {
	case e.younger != nil:
		e.younger.older = e.older
	case e.older != nil:
		p.cover[k] = e.older
	default:
		delete(p.cover, k)
	}
	e.covers, e.younger, e.older = false, nil, nil
}

// UncoverAll has published SAs that go together cover nothing.
func (p *Publisher) UncoverAll(keys []sadb.SAKey) {
	for _, k := range keys {
		p.Item()
		p.UncoverSA(k)
	}
}

// UncoverSA has a published SA cover nothing. It does not pause.
func (p *Publisher) UncoverSA(k sadb.SAKey) { p.uncover(p.sas[k]) }

// back notes that the kernel holds e.
func (p *Publisher) back(e *pubSA) {
	e.retained = false
	p.coverAgain(e)
}

// Covered reports whether deleting the SA is the end of a rekey.
func (p *Publisher) Covered(key sadb.SAKey) bool {
	e := p.sas[key]
	if e == nil {
		return true
	}
	youngest := p.cover[coverOf(e.sa)]
	return youngest != nil && youngest.handle > e.handle
}
