package ipsecconf

import (
	"fmt"
	"net/netip"

	"sasyncd/sync/sadb"
)

// Set is what a file asks for.
type Set struct {
	SAs   []SA
	Flows []Flow
}

// SA is one SA and where its rule stands. Its counters are zero.
type SA struct {
	Pos Pos
	SA  *sadb.SA
}

// Flow is the policy of one direction, with its twin for forwarded packets if
// the direction is in, and where the rule stands.
type Flow struct {
	Pos      Pos
	Policies []*sadb.Policy
}

// Result is what Load returns.
type Result struct {
	Set
	// Files are all files that were asked for, the first one first, whether
	// they could be read or not.
	Files []string
}

// Load reads a file and those it names through read. The error is of type
// Errors and holds everything wrong; Result.Files is complete even then as far
// as the files could be understood.
func Load(name string, read Read) (Result, error) {
	p := &parser{read: read, macros: make(map[string]string)}
	p.file(name, Pos{File: name})
	c := &compiler{parser: p, sas: make(map[sadb.SAKey]Pos), policies: make(map[sadb.PolicyKey]Pos)}
	for i := range p.sas {
		c.saRule(&p.sas[i])
	}
	if len(p.errs) == 0 { // else flows would miss SAs that were refused
		for i := range p.flows {
			c.flowRule(&p.flows[i])
		}
	}
	return Result{Set: c.set, Files: p.files}, p.err()
}

// compiler expands lists and makes SAs and policies.
type compiler struct {
	*parser
	set      Set
	sas      map[sadb.SAKey]Pos
	policies map[sadb.PolicyKey]Pos
	rules    int
}

// room reports whether more may come of lists.
func (c *compiler) room(at Pos) bool {
	c.rules++
	if c.rules == maxRules+1 {
		c.errorf(at, "write networks instead of lists", "the lists make more than %d rules", maxRules)
	}
	return c.rules <= maxRules
}

// pairs calls f for each source with each destination of its family.
func (c *compiler) pairs(at Pos, src, dst []netip.Prefix, f func(src, dst netip.Prefix)) {
	n := 0
	for _, s := range src {
		for _, d := range dst {
			if s.Addr().Is4() != d.Addr().Is4() {
				continue
			}
			n++
			if !c.room(at) {
				return
			}
			f(s, d)
		}
	}
	if n == 0 {
		c.errorf(at, "write addresses of one family", "from and to have no family in common")
	}
}

func (c *compiler) saRule(r *saRule) {
	c.pairs(r.pos, r.src, r.dst, func(src, dst netip.Prefix) {
		c.sa(r, src.Addr(), dst.Addr(), r.spi[0], r.transforms.authKey.out, r.transforms.encKey.out)
		if t := &r.transforms; r.spi[1] != 0 || t.authKey.in != nil || t.encKey.in != nil {
			if r.spi[1] == 0 {
				c.errorf(r.pos, "write spi OUT:IN", "the rule has a key for the reverse direction and no spi for it")
				return
			}
			c.sa(r, dst.Addr(), src.Addr(), r.spi[1], t.authKey.in, t.encKey.in)
		}
	})
}

// sa adds one SA.
func (c *compiler) sa(r *saRule, src, dst netip.Addr, spi uint32, authKey, encKey []byte) {
	sa := &sadb.SA{
		Key: sadb.SAKey{Dst: dst, SPI: spi, Proto: r.proto}, Src: src, Mode: r.mode, Reqid: sadb.StaticReqid,
		Limits: unlimited(),
	}
	if r.mode == sadb.ModeTunnel {
		sa.Flags = sadb.FlagAFUnspec // either family goes through a tunnel
	} else {
		sa.Selector.Family = sadb.FamilyOf(dst)
	}
	if src == dst {
		c.errorf(r.pos, "write the addresses of two gateways", "both ends of the SA are %s", src)
		return
	}
	if !c.algorithms(sa, r.pos, &r.transforms, authKey, encKey) {
		return
	}
	if first, twice := c.sas[sa.Key]; twice {
		c.errorf(r.pos, "give each its own spi", "there is an SA %s already, at %s", sa.Key, first)
		return
	}
	c.sas[sa.Key] = r.pos
	c.set.SAs = append(c.set.SAs, SA{r.pos, sa})
}

func unlimited() sadb.Limits {
	return sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit, SoftPackets: sadb.NoLimit,
		HardPackets: sadb.NoLimit}
}

// flowRule makes the policies of both directions of a rule, or of the one that
// it names.
func (c *compiler) flowRule(r *flowRule) {
	c.pairs(r.pos, r.src, r.dst, func(src, dst netip.Prefix) {
		sel := sadb.SelectorOf(src, dst)
		sel.Proto = r.upper
		if r.sport != 0 {
			sel.SrcPort, sel.SrcPortMask = r.sport, 0xffff
		}
		if r.dport != 0 {
			sel.DstPort, sel.DstPortMask = r.dport, 0xffff
		}
		inward := sel
		if r.dir != sadb.DirIn {
			inward = reversed(sel)
		}
		tunnel, ok := c.tunnel(r, src, dst)
		if !ok {
			return
		}
		if r.dir != sadb.DirIn {
			c.flow(r, policy(sadb.DirOut, sel, r.kind, tunnel))
		}
		if r.dir == sadb.DirOut {
			return
		}
		in := policy(sadb.DirIn, inward, r.kind, tunnel)
		if tunnel != nil && tunnel.mode == sadb.ModeTransport {
			c.flow(r, in) // what ends here is not forwarded
			return
		}
		c.flow(r, in, policy(sadb.DirFwd, inward, r.kind, tunnel))
	})
}

// flow adds the policies of one direction.
func (c *compiler) flow(r *flowRule, ps ...*sadb.Policy) {
	if first, twice := c.policies[ps[0].Key]; twice {
		c.errorf(r.pos, "remove one of them: Linux has one policy for the same traffic",
			"there is a flow %s for the same traffic already, at %s", ps[0].Key.Dir, first)
		return
	}
	c.policies[ps[0].Key] = r.pos
	c.set.Flows = append(c.set.Flows, Flow{r.pos, ps})
}

// tunnel is what Linux wants to know of the SAs of a flow.
type tunnel struct {
	local, peer netip.Addr
	proto       uint8
	mode        sadb.Mode
}

// tunnel finds the SAs of a flow from src to dst among those of the file: an
// OpenBSD kernel looks for them when a packet comes, Linux wants their ends and
// mode in the policy. It returns nil for a flow without any.
func (c *compiler) tunnel(r *flowRule, src, dst netip.Prefix) (*tunnel, bool) {
	if r.kind == "deny" || r.kind == "bypass" {
		if r.peer.IsValid() || r.local.IsValid() {
			c.errorf(r.pos, "remove peer and local", "a flow of type %s goes through no SA", r.kind)
			return nil, false
		}
		return nil, true
	}
	peer, remote, near := r.peer, dst, src
	if r.dir == sadb.DirIn {
		remote, near = src, dst
	}
	if !peer.IsValid() {
		if !remote.IsSingleIP() {
			c.errorf(r.pos, "write peer and the address of the other gateway", "the flow to %s names no peer", remote)
			return nil, false
		}
		peer = remote.Addr()
	}
	var found *tunnel
	var out, in bool
	for _, e := range c.set.SAs {
		s := e.SA
		var local netip.Addr
		switch {
		case s.Key.Proto != r.proto:
			continue
		case s.Key.Dst == peer:
			local = s.Src
		case s.Src == peer:
			local = s.Key.Dst
		default:
			continue
		}
		if r.local.IsValid() && local != r.local {
			continue
		}
		if found != nil && (found.local != local || found.mode != s.Mode) {
			c.errorf(r.pos, "write local, or leave one kind of SA between the two",
				"the SAs with %s differ in mode or in the other end: %s at %s", peer, local, e.Pos)
			return nil, false
		}
		found = &tunnel{local, peer, r.proto, s.Mode}
		out, in = out || s.Key.Dst == peer, in || s.Src == peer
	}
	name := map[uint8]string{sadb.ProtoESP: "esp", sadb.ProtoAH: "ah", sadb.ProtoComp: "ipcomp"}[r.proto]
	switch {
	case found == nil:
		c.errorf(r.pos, fmt.Sprintf("write an %s rule for both directions, or the right peer and local", name),
			"no %s rule makes SAs with %s for this flow", name, peer)
	case r.dir != sadb.DirIn && !out:
		c.errorf(r.pos, "write spi OUT:IN and two keys in its rule", "no %s rule makes an SA from %s to %s", name,
			found.local, peer)
	case r.dir != sadb.DirOut && !in:
		c.errorf(r.pos, "write spi OUT:IN and two keys in its rule", "no %s rule makes an SA from %s to %s", name, peer,
			found.local)
	case found.mode == sadb.ModeTransport && (!remote.Contains(peer) || !near.Contains(found.local)):
		c.errorf(r.pos, "make the SAs in tunnel mode", "transport mode protects what goes between %s and %s only",
			found.local, peer)
	default:
		return found, true
	}
	return nil, false
}

func reversed(s sadb.Selector) sadb.Selector {
	s.Src, s.Dst = s.Dst, s.Src
	s.SrcLen, s.DstLen = s.DstLen, s.SrcLen
	s.SrcPort, s.DstPort = s.DstPort, s.SrcPort
	s.SrcPortMask, s.DstPortMask = s.DstPortMask, s.SrcPortMask
	return s
}

// policy makes the policy of one direction.
func policy(dir sadb.Direction, sel sadb.Selector, kind string, t *tunnel) *sadb.Policy {
	p := &sadb.Policy{Key: sadb.PolicyKey{Dir: dir, Selector: sel}, Priority: priority(sel), Limits: unlimited()}
	if kind == "deny" {
		p.Action = sadb.ActionBlock
	}
	if t == nil {
		return p
	}
	all := ^uint32(0)
	m := sadb.Template{Src: t.local, Dst: t.peer, Proto: t.proto, Family: sadb.FamilyOf(t.peer),
		Reqid: sadb.StaticReqid,
		Mode:  t.mode, Optional: kind == "use", AuthAlgs: all, EncAlgs: all, CompAl: all}
	if dir != sadb.DirOut {
		m.Src, m.Dst = t.peer, t.local
	}
	p.Templates = []sadb.Template{m}
	return p
}

// priority makes the more specific policy the stronger one, which is how
// OpenBSD chooses among flows.
func priority(s sadb.Selector) uint32 {
	rank := 4 * (uint32(s.SrcLen) + uint32(s.DstLen))
	for _, set := range []bool{s.Proto != 0, s.SrcPortMask != 0, s.DstPortMask != 0} {
		if set {
			rank++
		}
	}
	return sadb.StaticPriority + maxRank - rank
}

// maxRank is that of a flow between two ports of two IPv6 hosts.
const maxRank = 4*(128+128) + 3
