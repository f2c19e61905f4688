package keying

import (
	"slices"

	"sasyncd/keying/ipsecconf"
	"sasyncd/sync/sadb"
)

// saDiff is what is to be done to have the wanted SAs instead of those there are.
type saDiff struct{ add, replace, remove []*sadb.SA }

// diffSAs compares what decides about packets. What is there as it is wanted is
// left alone, whoever has installed it: its counters are right.
func diffSAs(want, have []*sadb.SA) (d saDiff) {
	there := make(map[sadb.SAKey]*sadb.SA, len(have))
	for _, sa := range have {
		there[sa.Key] = sa
	}
	wanted := make(map[sadb.SAKey]bool, len(want))
	for _, sa := range want {
		wanted[sa.Key] = true
		switch h := there[sa.Key]; {
		case h == nil:
			d.add = append(d.add, sa)
		case !sameSA(sa, h):
			d.replace = append(d.replace, sa)
		}
	}
	d.remove = keep(have, func(sa *sadb.SA) bool { return !wanted[sa.Key] })
	return d
}

func sameSA(a, b *sadb.SA) bool {
	return a.Src == b.Src && a.Mode == b.Mode && sameTransform(a.Auth, b.Auth) && sameTransform(a.Crypt, b.Crypt) &&
		sameTransform(a.Comp, b.Comp) &&
		b.AEAD == nil && b.Encap == nil && a.Window == b.Window
}

func sameTransform(a, b *sadb.Algorithm) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && a.TruncBits == b.TruncBits && a.Key.Equal(b.Key)
}

// addOps adds SAs, replacing what has their identity.
func addOps(sas []*sadb.SA, replace bool) (ops []sadb.Op) {
	for _, sa := range sas {
		if replace {
			ops = append(ops, sadb.Op{Kind: sadb.OpDeleteSA, SA: sa})
		}
		ops = append(ops, sadb.Op{Kind: sadb.OpAddSA, SA: sa})
	}
	return ops
}

// policyOps has the wanted policies instead of those there are: new ones come
// before old ones go, so that no packet finds none in between.
func policyOps(want, have []*sadb.Policy) (ops []sadb.Op) {
	there := make(map[sadb.PolicyKey]*sadb.Policy, len(have))
	for _, p := range have {
		there[p.Key] = p
	}
	wanted := make(map[sadb.PolicyKey]bool, len(want))
	for _, p := range want {
		wanted[p.Key] = true
		switch h := there[p.Key]; {
		case h == nil:
			ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: p})
		case h.Priority != p.Priority || h.Action != p.Action || !slices.Equal(h.Templates, p.Templates):
			ops = append(ops, sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: p})
		}
	}
	for _, p := range have {
		if !wanted[p.Key] {
			ops = append(ops, sadb.Op{Kind: sadb.OpDeletePolicy, Policy: p})
		}
	}
	return ops
}

// policiesOf returns the policies of a set that f wants.
func policiesOf(set ipsecconf.Set, f func(*sadb.Policy) bool) (out []*sadb.Policy) {
	for _, flow := range set.Flows {
		out = append(out, keep(flow.Policies, f)...)
	}
	return out
}

func keep[T any](list []T, f func(T) bool) (out []T) {
	for _, x := range list {
		if f(x) {
			out = append(out, x)
		}
	}
	return out
}
