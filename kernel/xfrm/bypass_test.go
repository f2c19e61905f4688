package xfrm

import (
	"net/netip"
	"slices"
	"testing"

	"sasyncd/kernel/link"
	"sasyncd/sync/sadb"
)

func tunnelPolicy(dir sadb.Direction, src, dst, outer string, priority uint32) *sadb.Policy {
	return &sadb.Policy{
		Key: sadb.PolicyKey{Dir: dir, Selector: sadb.SelectorOf(netip.MustParsePrefix(src),
			netip.MustParsePrefix(dst))},
		Priority: priority,
		Templates: []sadb.Template{{
			Src: netip.MustParseAddr(outer), Dst: netip.MustParseAddr("198.51.100.1"), Mode: sadb.ModeTunnel,
		}},
	}
}

func TestFindOwn(t *testing.T) {
	addr := func(s string, index int) link.Address {
		return link.Address{Prefix: netip.MustParsePrefix(s), Link: index}
	}
	loop := addr("10.1.0.66/32", 1)
	loop.Loopback = true
	addrs := []link.Address{
		loop,
		addr("10.1.0.2/24", 2),       // inside, protected
		addr("10.1.0.1/32", 2),       // the VIP
		addr("10.3.0.2/24", 3),       // inside, not protected
		addr("10.1.5.2/24", 4),       // protected, but there is no VIP
		addr("192.0.2.2/24", 5),      // outside, protected by a wide selector
		addr("fe80::2/64", 2),        // link-local
		addr("fd00:1::2/64", 2),      // inside, protected
		addr("2001:db8:5::2/64", 5),  // outside
		addr("10.1.0.3/24", 2),       // a second one
		addr("fd00:1::ffff/128", 17), // protected, but alone
	}
	var vips []netip.Addr
	for _, s := range []string{"192.0.2.1", "10.1.0.1", "10.3.0.1", "fd00:1::1"} {
		vips = append(vips, netip.MustParseAddr(s))
	}
	policies := []*sadb.Policy{
		tunnelPolicy(sadb.DirOut, "10.1.0.0/16", "10.2.0.0/16", "192.0.2.1", 9),
		tunnelPolicy(sadb.DirOut, "192.0.0.0/8", "10.2.0.0/16", "192.0.2.1", 9),
		tunnelPolicy(sadb.DirOut, "fd00:1::/48", "fd00:2::/48", "192.0.2.1", 9),
		tunnelPolicy(sadb.DirIn, "10.2.0.0/16", "10.3.0.0/16", "198.51.100.1", 9),
	}
	got := FindOwn(addrs, vips, policies)
	want := []Own{
		{netip.MustParsePrefix("10.1.0.2/24"), 2, netip.MustParseAddr("10.1.0.1")},
		{netip.MustParsePrefix("fd00:1::2/64"), 2, netip.MustParseAddr("fd00:1::1")},
		{netip.MustParsePrefix("10.1.0.3/24"), 2, netip.MustParseAddr("10.1.0.1")},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestBypassOps(t *testing.T) {
	own := []Own{{netip.MustParsePrefix("10.1.0.2/24"), 2, netip.MustParseAddr("10.1.0.1")}}
	young := tunnelPolicy(sadb.DirOut, "10.1.0.0/16", "10.2.0.0/16", "192.0.2.1", 0)
	old := tunnelPolicy(sadb.DirOut, "10.0.0.0/8", "10.3.0.0/16", "192.0.2.1", 0)
	weak := tunnelPolicy(sadb.DirOut, "10.1.0.0/16", "10.4.0.0/16", "192.0.2.1", 1)
	other := tunnelPolicy(sadb.DirOut, "10.9.0.0/16", "10.2.0.0/16", "192.0.2.1", 0)
	in := tunnelPolicy(sadb.DirIn, "10.2.0.0/16", "10.1.0.0/16", "198.51.100.1", 0)
	fwd := tunnelPolicy(sadb.DirFwd, "10.2.0.0/16", "10.1.0.0/16", "198.51.100.1", 0)
	block := &sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: young.Key.Selector, IfID: 1},
		Action: sadb.ActionBlock}
	tables := []*sadb.Policy{young, in, weak, fwd, other, block, old} // newest first

	ops := BypassOps(own, tables)
	var added []*sadb.Policy
	var updated []*sadb.Policy
	for _, op := range ops {
		switch op.Kind {
		case sadb.OpAddPolicy:
			if len(updated) > 0 {
				t.Error("a policy was added after an update")
			}
			added = append(added, op.Policy)
		case sadb.OpUpdatePolicy:
			updated = append(updated, op.Policy)
		default:
			t.Errorf("%s", op.Kind)
		}
	}
	if len(added) != 2 || !IsBypass(added[0]) || !IsBypass(added[1]) || added[0].Index == added[1].Index ||
		added[0].Key.Dir != sadb.DirIn || added[1].Key.Dir != sadb.DirOut || added[0].Priority != 0 {
		t.Errorf("added %+v", added)
	}
	// Each that would win is weakened and put back, oldest first.
	var priorities []uint32
	var which []sadb.PolicyKey
	for _, p := range updated {
		priorities = append(priorities, p.Priority)
		which = append(which, p.Key)
	}
	if !slices.Equal(priorities, []uint32{1, 0, 1, 0, 1, 0}) ||
		!slices.Equal(which, []sadb.PolicyKey{old.Key, old.Key, in.Key, in.Key, young.Key, young.Key}) {
		t.Errorf("updated %v %v", priorities, which)
	}
	if old.Priority != 0 {
		t.Error("a policy of the caller was changed")
	}

	// Afterwards nothing is to be done, and everything can be undone.
	done := append([]*sadb.Policy{young, in, old, added[1], added[0]}, weak, fwd, other, block)
	if ops := BypassOps(own, done); len(ops) != 0 {
		t.Errorf("ops again: %+v", ops)
	}
	undo := BypassOps(nil, done)
	if len(undo) != 2 || undo[0].Kind != sadb.OpDeletePolicy || !IsBypass(undo[0].Policy) || !IsBypass(undo[1].Policy) {
		t.Errorf("undone by %+v", undo)
	}
	// Another address gets other indexes, and the stale ones go.
	moved := BypassOps([]Own{{netip.MustParsePrefix("10.1.0.3/24"), 2, netip.MustParseAddr("10.1.0.1")}}, done)
	used := map[uint32]bool{added[0].Index: true, added[1].Index: true}
	deleted := 0
	for _, op := range moved {
		switch op.Kind {
		case sadb.OpDeletePolicy:
			deleted++
		case sadb.OpAddPolicy:
			if used[op.Policy.Index] {
				t.Errorf("index %#x used twice", op.Policy.Index)
			}
		}
	}
	if deleted != 2 {
		t.Errorf("%d stale ones deleted, want 2", deleted)
	}
}
