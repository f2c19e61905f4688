package kerneltest

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

type policy struct {
	sadb.Policy
	added, used int64
	dying       bool
	timer       *time.Timer
}

func (p *policy) view(now int64) *sadb.Policy {
	c := p.Policy
	c.Use.Age, c.Use.Used, c.Use.UseAge = uint64(max(0, now-p.added)), p.used != 0, 0
	if p.used != 0 {
		c.Use.UseAge = uint64(max(0, now-p.used))
	}
	return &c
}

func (t *tables) findPolicy(key sadb.PolicyKey) *policy {
	for _, p := range t.policies {
		if !p.Socket && p.Key == key {
			return p
		}
	}
	return nil
}

// putPolicy adds or, for an update, replaces: a policy that is updated keeps
// its index and becomes the newest.
func (k *Kernel) putPolicy(op sadb.Op) error {
	in := op.Policy
	if err := checkPolicy(in); err != 0 {
		return refuse(op, err)
	}
	old := k.findPolicy(in.Key)
	if old != nil && op.Kind == sadb.OpAddPolicy {
		return refuse(op, unix.EEXIST)
	}
	p := &policy{Policy: *in, added: k.now().Unix()}
	p.Use = sadb.Use{}
	p.Templates = slices.Clone(in.Templates)
	for i := range p.Templates {
		if t := &p.Templates[i]; t.AuthAlgs|t.EncAlgs|t.CompAl == 0 {
			t.AuthAlgs, t.EncAlgs, t.CompAl = ^uint32(0), ^uint32(0), ^uint32(0)
		}
	}
	if old != nil {
		p.Index = old.Index
		k.removePolicy(old)
	} else if k.process == first && !xfrm.IsOurPolicy(p.Index) && !xfrm.IsBypass(in) {
		k.polTag++
		p.Index = 0x5a000000 | k.polTag<<3 | uint32(in.Key.Dir-sadb.DirIn)
	}
	k.policies = slices.Insert(k.policies, 0, p)
	k.announce(sadb.Event{Kind: sadb.EventPutPolicy, Policy: p.view(p.added)}, k.process)
	k.schedulePolicy(p, time.Second)
	return nil
}

// checkPolicy is what verify_newpolicy_info refuses, as far as tests can get
// there.
func checkPolicy(in *sadb.Policy) unix.Errno {
	sel := in.Key.Selector
	limit := uint8(32)
	if sel.Family == sadb.FamilyIPv6 {
		limit = 128
	}
	switch {
	case sel.Family != sadb.FamilyIPv4 && sel.Family != sadb.FamilyIPv6,
		sel.SrcLen > limit || sel.DstLen > limit,
		in.Key.Dir < sadb.DirIn || in.Key.Dir > sadb.DirFwd,
		in.Action > sadb.ActionBlock,
		in.Socket,
		len(in.Templates) > 6,
		xfrm.IsOurPolicy(in.Index) && in.Index&7 != uint32(in.Key.Dir-sadb.DirIn):
		return unix.EINVAL
	}
	return 0
}

func (k *Kernel) deletePolicy(key sadb.PolicyKey) {
	p := k.findPolicy(key)
	if p == nil {
		return
	}
	k.removePolicy(p)
	k.announce(sadb.Event{Kind: sadb.EventDeletePolicy, Policy: p.view(k.now().Unix())}, k.process)
}

func (t *tables) removePolicy(p *policy) {
	if i := slices.Index(t.policies, p); i >= 0 {
		t.policies = slices.Delete(t.policies, i, i+1)
	}
	if p.timer != nil {
		p.timer.Stop()
	}
}

// FlushPolicy removes all policies of a type and announces it once, if there
// were any.
func (k *Kernel) FlushPolicy(sub bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.policies)
	for _, p := range slices.Clone(k.policies) {
		if !p.Socket && p.Key.Sub == sub {
			k.removePolicy(p)
		}
	}
	if len(k.policies) < n {
		k.announce(sadb.Event{Kind: sadb.EventFlushPolicy, Sub: sub}, k.process)
	}
}
