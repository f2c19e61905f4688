package replica

import (
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Digests returns those of everything that is published.
func (p *Publisher) Digests() (map[sadb.SAKey]wire.Sum, map[sadb.PolicyKey]wire.Sum) {
	sas, policies := make(map[sadb.SAKey]wire.Sum), make(map[sadb.PolicyKey]wire.Sum)
	for k, e := range p.sas {
		sas[k] = CoreDigest(e.sa)
	}
	for k, e := range p.policies {
		policies[k] = PolicyDigest(e.policy)
	}
	return sas, policies
}

// Digests returns those of everything that is wanted here, as this kernel can hold it,
// but for SAs that are withdrawn on purpose.
func (r *Receiver) Digests() (map[sadb.SAKey]wire.Sum, map[sadb.PolicyKey]wire.Sum) {
	sas, policies := make(map[sadb.SAKey]wire.Sum), make(map[sadb.PolicyKey]wire.Sum)
	for k, w := range r.want {
		if !w.short {
			sas[k] = CoreDigest(r.local(w.sa))
		}
	}
	for k, w := range r.wantPolicy {
		policies[k] = w.digest
	}
	return sas, policies
}
