package sadb

// Marks of what comes from an operator's file with static keys (`control
// static`). They are replicated, so that whoever is master knows what the file
// has made, and nothing else is taken for it.
const (
	// StaticReqid is the reqid of such SAs and of the templates that use them.
	// IKE daemons count theirs from 1 or from 16384.
	StaticReqid uint32 = 0x53544154
	// StaticPriority is the strongest priority of such policies. Beyond those
	// that strongSwan and libreswan compute, it lets their policies be first.
	StaticPriority uint32 = 3_000_000
	// staticPriorities is how many priorities there are.
	staticPriorities = 2000
)

// Static reports whether the SA comes from a file with static keys. Nobody
// negotiates such SAs anew, so nothing ever supersedes them.
func (s *SA) Static() bool { return s.Reqid == StaticReqid }

// Static reports whether the policy comes from a file with static keys.
func (p *Policy) Static() bool {
	if p.Priority < StaticPriority || p.Priority >= StaticPriority+staticPriorities {
		return false
	}
	for _, t := range p.Templates {
		if t.Reqid != StaticReqid {
			return false
		}
	}
	return true
}
