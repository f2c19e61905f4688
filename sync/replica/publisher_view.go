package replica

import (
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// outAt returns what had been sent when an epoch was collected, or at the oldest
// one that is remembered.
func (p *Publisher) outAt(epoch uint64) uint64 {
	if epoch+outEpochs <= p.epoch {
		epoch = p.epoch - outEpochs + 1
	}
	return p.outs[epoch%outEpochs]
}

// Stream returns the stream that it publishes.
func (p *Publisher) Stream() wire.StreamID { return p.stream }

// Seq returns the number of the last change.
func (p *Publisher) Seq() uint64 { return p.seq }

// Epoch returns the number of the last collection of counters.
func (p *Publisher) Epoch() uint64 { return p.epoch }

// Headroom returns for how many seconds the outbound counter that would run out first
// lasts at its present rate, infinite while nothing is sent.
func (p *Publisher) Headroom() float64 { return p.headroom }

// Packets returns how many packets all SAs carried.
func (p *Publisher) Packets() (out, in uint64) { return p.out, p.in }

// Bytes returns the same in bytes, as the kernel counts them for lifetimes.
func (p *Publisher) Bytes() (out, in uint64) { return p.outBytes, p.inBytes }

// Each calls f with each published SA and with when its counters were last seen to
// have moved, zero for never since this node publishes. The SA is the publisher's.
func (p *Publisher) Each(f func(sa *sadb.SA, moved time.Time)) {
	for _, e := range p.sas {
		var moved time.Time
		if e.moved > 0 {
			moved = p.began.Add(e.heard)
		}
		f(e.sa, moved)
	}
}

// HadSAs reports whether an SA was ever published.
func (p *Publisher) HadSAs() bool { return p.lastHandle > 0 }

// Sums returns those over what is published.
func (p *Publisher) Sums() *Sums { return &p.sums }

// Pos returns the stream and the number of its last change.
func (p *Publisher) Pos() wire.StreamPos {
	return wire.StreamPos{StreamID: p.stream, Seq: p.seq, Complete: true}
}

// Size returns how many items are published.
func (p *Publisher) Size() (sas, policies int) { return len(p.sas), len(p.policies) }

// SA returns a published SA, nil if there is none of that identity. It is the
// publisher's, and its ages are old.
func (p *Publisher) SA(k sadb.SAKey) *sadb.SA {
	if e := p.sas[k]; e != nil {
		return e.sa
	}
	return nil
}

// agedSA is sa with the ages of now.
func (p *Publisher) agedSA(now time.Time, k sadb.SAKey) *sadb.SA {
	p.age(now, p.sas[k])
	return p.sas[k].sa
}

// Peak returns the highest rate of a published SA, in packets per second.
func (p *Publisher) Peak(k sadb.SAKey) float64 { return p.sas[k].rate.Peak() }

// sentSince bounds what this node has sent on an SA since the last reading.
func (p *Publisher) sentSince(now time.Time, k sadb.SAKey, m sadb.Margin) uint64 {
	e := p.sas[k]
	lead, _ := m.Lead(e.sa.ESN(), e.rate.Peak(), now.Sub(p.collected))
	return lead
}
