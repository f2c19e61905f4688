package xfrm_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/kerneltest"
	"sasyncd/kernel/netlink"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/netns"
)

// What a kernel does with SAs, which need ESP, is shown in tests/conformance. Here is what
// every kernel with XFRM can do.

func openKernel(t *testing.T, opt xfrm.Options) *xfrm.Kernel {
	t.Helper()
	k, err := xfrm.New(opt)
	ok(t, err)
	t.Cleanup(func() { ok(t, k.Close()) })
	return k
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// asker returns what sends a request to XFRM as another process.
func asker(t *testing.T) func(typ uint16, payload []byte) {
	t.Helper()
	ns, err := netlink.CurrentNamespace()
	ok(t, err)
	req, err := netlink.NewRequester(func() (*netlink.Socket, error) { return ns.Open(unix.NETLINK_XFRM, 0, 0) }, 0)
	ok(t, err)
	t.Cleanup(func() { ok(t, req.Close()); ns.Close() })
	return func(typ uint16, payload []byte) {
		t.Helper()
		ok(t, req.Request(context.Background(), typ, unix.NLM_F_ACK, payload, func(netlink.Message) error { return nil }))
	}
}

// Messages and attributes of linux/xfrm.h.
const (
	msgAllocSPI, msgFlushPolicy, msgNewSPDInfo, msgSetDefault = 0x16, 0x1d, 0x24, 0x27
	attrPolicyType, attrThreshold4, attrThreshold6            = 16, 3, 4
)

func pol(dir sadb.Direction, id uint32) *sadb.Policy {
	p := kerneltest.SamplePolicy(dir, "10.1.0.0/16", "10.2.0.0/16", "192.0.2.1", "198.51.100.1")
	p.Key.IfID = id
	return p
}

func apply(t *testing.T, k *xfrm.Kernel, kind sadb.OpKind, list ...*sadb.Policy) {
	t.Helper()
	var ops []sadb.Op
	for _, p := range list {
		ops = append(ops, sadb.Op{Kind: kind, Policy: p})
	}
	ok(t, errors.Join(k.Apply(t.Context(), ops)...))
}

func TestPoliciesOfAKernel(t *testing.T) {
	kerneltest.Policies(t, func(t *testing.T) kerneltest.Bench {
		netns.Enter(t)
		ask := asker(t)
		return kerneltest.Bench{Subject: openKernel(t, xfrm.Options{}), Other: openKernel(t, xfrm.Options{}),
			FlushPolicy: func(sub bool) {
				typ := []byte{0, 0, 0, 0, 0, 0}
				if sub {
					typ[0] = 1
				}
				ask(msgFlushPolicy, netlink.AppendAttr(nil, attrPolicyType, typ))
			}}
	})
}

func TestEncapPort(t *testing.T) {
	netns.Enter(t)
	kerneltest.EncapPort(t)
}

// TestTagsGoOn: a process that comes later takes no index that is in use, in whichever
// direction.
func TestTagsGoOn(t *testing.T) {
	netns.Enter(t)
	a := openKernel(t, xfrm.Options{})
	apply(t, a, sadb.OpAddPolicy, pol(sadb.DirOut, 1), pol(sadb.DirIn, 2), pol(sadb.DirFwd, 3))
	foreign := pol(sadb.DirOut, 4)
	foreign.Index = 1 << 30 // no index of ours, so it gets one
	apply(t, a, sadb.OpAddPolicy, foreign)
	b := openKernel(t, xfrm.Options{})
	for i := range uint32(9) {
		apply(t, b, sadb.OpAddPolicy, pol(sadb.DirIn+sadb.Direction(i%3), 10+i))
	}
	list, err := b.Policies(t.Context())
	ok(t, err)
	seen := make(map[uint32]bool)
	for _, p := range list {
		if !xfrm.IsOurPolicy(p.Index) || seen[p.Index] || p.Index&7 != uint32(p.Key.Dir-sadb.DirIn) {
			t.Errorf("%s has index %#x", p.Key, p.Index)
		}
		seen[p.Index] = true
	}
	if len(list) != 13 {
		t.Errorf("%d policies, want 13", len(list))
	}
	kept := pol(sadb.DirOut, 30)
	kept.Index = (list[0].Index&^7 + 0x100) | 1 // one of ours that is free
	apply(t, b, sadb.OpAddPolicy, kept)
	list, err = b.Policies(t.Context())
	ok(t, err)
	if list[0].Key != kept.Key || list[0].Index != kept.Index {
		t.Errorf("index %#x, want %#x", list[0].Index, kept.Index)
	}
}

// TestOwnChangesAreSkipped, where that is asked for, and others' are told.
func TestOwnChangesAreSkipped(t *testing.T) {
	netns.Enter(t)
	k, other := openKernel(t, xfrm.Options{SkipOwn: true}), openKernel(t, xfrm.Options{})
	events, err := k.Watch(t.Context())
	ok(t, err)
	one, two, three := pol(sadb.DirOut, 1), pol(sadb.DirOut, 2), pol(sadb.DirOut, 3)
	apply(t, k, sadb.OpAddPolicy, one)
	apply(t, k, sadb.OpDeletePolicy, one)
	apply(t, other, sadb.OpAddPolicy, two)
	apply(t, k, sadb.OpAddPolicy, three)
	apply(t, other, sadb.OpDeletePolicy, three)
	for i, want := range []struct {
		kind sadb.EventKind
		key  sadb.PolicyKey
	}{{sadb.EventPutPolicy, two.Key}, {sadb.EventDeletePolicy, three.Key}} {
		select {
		case ev := <-events:
			if ev.Kind != want.kind || ev.Own || ev.Policy.Key != want.key {
				t.Errorf("event %d: kind %d of %v, own %v", i, ev.Kind, ev.Policy, ev.Own)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("event %d does not come", i)
		}
	}
}

// TestLostEventsAreTold: who cannot keep up hears that something is lost, and afterwards
// what changes.
func TestLostEventsAreTold(t *testing.T) {
	netns.Enter(t)
	k, other := openKernel(t, xfrm.Options{EventBuffer: 1}), openKernel(t, xfrm.Options{})
	events, err := k.Watch(t.Context())
	ok(t, err)
	var list []*sadb.Policy
	for i := range uint32(100) {
		list = append(list, pol(sadb.DirOut, i+1))
	}
	lost := false
	for began := time.Now(); !lost; {
		apply(t, other, sadb.OpAddPolicy, list...)
		apply(t, other, sadb.OpDeletePolicy, list...)
		for wait := time.After(50 * time.Millisecond); wait != nil && !lost; {
			select {
			case ev := <-events:
				lost = ev.Kind == sadb.EventResync && ev.Reason != ""
			case <-wait:
				wait = nil
			}
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("nothing is lost")
		}
	}
	if k.Resyncs() == 0 {
		t.Error("what is lost is not counted")
	}
	last := pol(sadb.DirFwd, 999)
	apply(t, other, sadb.OpAddPolicy, last)
	for {
		select {
		case ev, open := <-events:
			if !open {
				t.Fatal("the events have ended")
			}
			switch {
			case ev.Kind == sadb.EventPutPolicy && ev.Policy.Key == last.Key:
				return
			case ev.Kind == sadb.EventResync: // that of last may be what is lost this time
				apply(t, other, sadb.OpDeletePolicy, last)
				apply(t, other, sadb.OpAddPolicy, last)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no event after a loss")
		}
	}
}

// TestChangesOfPoliciesAreTold, several as one, until the context ends.
func TestChangesOfPoliciesAreTold(t *testing.T) {
	netns.Enter(t)
	k := openKernel(t, xfrm.Options{SkipOwn: true})
	ctx, cancel := context.WithCancel(t.Context())
	changes, err := k.WatchPolicies(ctx)
	ok(t, err)
	told := func() {
		t.Helper()
		select {
		case _, open := <-changes:
			if !open {
				t.Fatal("it has ended")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no change is told")
		}
	}
	apply(t, k, sadb.OpAddPolicy, pol(sadb.DirOut, 1)) // its own too
	told()
	apply(t, k, sadb.OpDeletePolicy, pol(sadb.DirOut, 1))
	told()
	cancel()
	for range 2 { // what is told already comes first
		select {
		case _, open := <-changes:
			if !open {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it does not end")
		}
	}
	t.Error("it tells more than has changed")
}

// TestInfo: each number and each default is what the kernel has in its place.
func TestInfo(t *testing.T) {
	netns.Enter(t)
	k, ask := openKernel(t, xfrm.Options{}), asker(t)
	apply(t, k, sadb.OpAddPolicy, pol(sadb.DirIn, 1), pol(sadb.DirOut, 1), pol(sadb.DirOut, 2), pol(sadb.DirFwd, 1),
		pol(sadb.DirFwd, 2), pol(sadb.DirFwd, 3))
	thresholds := netlink.AppendAttr(make([]byte, 4), attrThreshold4, []byte{24, 16})
	ask(msgNewSPDInfo, netlink.AppendAttr(thresholds, attrThreshold6, []byte{64, 48}))
	got, err := k.SPDInfo(t.Context())
	ok(t, err)
	if got.HashBuckets < 1 || got.MaxHashBuckets <= got.HashBuckets {
		t.Errorf("%d buckets, at most %d", got.HashBuckets, got.MaxHashBuckets)
	}
	got.HashBuckets, got.MaxHashBuckets = 0, 0
	if want := (xfrm.SPDInfo{In: 1, Out: 2, Fwd: 3, Local4: 24, Remote4: 16, Local6: 64, Remote6: 48}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for name, want := range map[string]xfrm.Defaults{"in": {InBlocked: true}, "fwd": {FwdBlocked: true},
		"out": {OutBlocked: true}, "none": {}, "all": {true, true, true}} {
		value := map[bool]byte{true: 1, false: 2}
		ask(msgSetDefault, []byte{value[want.InBlocked], value[want.FwdBlocked], value[want.OutBlocked], 0})
		if d, err := k.Defaults(t.Context()); err != nil || d != want {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// TestProtects: which policies have anything encrypted, and for whom.
func TestProtects(t *testing.T) {
	netns.Enter(t)
	k := openKernel(t, xfrm.Options{})
	ns, err := netlink.CurrentNamespace()
	ok(t, err)
	defer ns.Close()
	addr := netip.MustParseAddr
	tunnel := pol(sadb.DirOut, 0)
	host := func(src, dst string) *sadb.Policy {
		p := kerneltest.SamplePolicy(sadb.DirOut, src, dst, "0.0.0.0", "0.0.0.0")
		p.Templates[0].Mode = sadb.ModeTransport
		return p
	}
	ends := host("192.0.2.1/32", "198.51.100.9/32")
	net := host("192.0.2.0/24", "198.51.100.0/24")
	bypass := pol(sadb.DirOut, 7)
	bypass.Templates = nil
	named := host("192.0.2.1/32", "198.51.100.9/32")
	named.Templates[0].Src, named.Templates[0].Dst = addr("192.0.2.5"), addr("198.51.100.9")
	for name, tt := range map[string]struct {
		p    *sadb.Policy
		vips []netip.Addr
		want bool
	}{
		"a tunnel":                                   {tunnel, nil, true},
		"without a template":                         {bypass, nil, false},
		"a tunnel of the address":                    {tunnel, []netip.Addr{addr("10.9.9.9"), addr("192.0.2.1")}, true},
		"to the address":                             {tunnel, []netip.Addr{addr("198.51.100.1")}, true},
		"of another":                                 {tunnel, []netip.Addr{addr("192.0.2.2")}, false},
		"of an address inside":                       {tunnel, []netip.Addr{addr("10.1.0.0")}, false},
		"transport of the address":                   {ends, []netip.Addr{addr("192.0.2.1")}, true},
		"transport to the address":                   {ends, []netip.Addr{addr("198.51.100.9")}, true},
		"transport of a network":                     {net, []netip.Addr{addr("192.0.2.0")}, false},
		"transport of the address, named by another": {named, []netip.Addr{addr("192.0.2.1")}, false},
	} {
		apply(t, k, sadb.OpAddPolicy, tt.p)
		if got, err := xfrm.Protects(ns, tt.vips...); err != nil || got != tt.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		apply(t, k, sadb.OpDeletePolicy, tt.p)
	}
	var many []*sadb.Policy
	for i := range uint32(300) { // several datagrams
		p := pol(sadb.DirOut, i+1)
		p.Templates = nil
		many = append(many, p)
	}
	apply(t, k, sadb.OpAddPolicy, many...)
	if got, err := xfrm.Protects(ns); err != nil || got {
		t.Errorf("none of many: %v, %v", got, err)
	}
	apply(t, k, sadb.OpUpdatePolicy, pol(sadb.DirOut, 150))
	if got, err := xfrm.Protects(ns); err != nil || !got {
		t.Errorf("one of many: %v, %v", got, err)
	}
}

// TestAbsentSAs: what is refused for an SA that is not there, and what is not.
func TestAbsentSAs(t *testing.T) {
	netns.Enter(t)
	k := openKernel(t, xfrm.Options{})
	sa := kerneltest.SampleESN("192.0.2.1", "198.51.100.1", 0x1001)
	bad := kerneltest.SampleSA("192.0.2.1", "198.51.100.1", 0x1002)
	bad.OSeq = 1 << 33
	errs := k.Apply(t.Context(), []sadb.Op{{Kind: sadb.OpDeleteSA, SA: sa}, {Kind: sadb.OpSetCounters, SA: sa},
		{Kind: sadb.OpSetCounters, SA: bad}, {Kind: sadb.OpDeleteSA, SA: bad}, {Kind: 99, SA: sa}})
	if errs[0] != nil || !errors.Is(errs[1], fs.ErrNotExist) || errs[2] == nil || errs[3] != nil || errs[4] == nil {
		t.Errorf("operations %v", errs)
	}
}

// TestScanOfManySAs: all SAs are read, in several pieces as in one; an error of who looks
// ends it, and so does the context.
func TestScanOfManySAs(t *testing.T) {
	netns.Enter(t)
	k, ask := openKernel(t, xfrm.Options{}), asker(t)
	const n = 1500
	for i := range uint32(n) { // larval ones, which need no ESP
		b := make([]byte, 224+8)
		dst := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}).As4()
		copy(b[56:], dst[:])
		b[76] = sadb.ProtoESP
		copy(b[80:], []byte{192, 0, 2, 1})
		binary.NativeEndian.PutUint32(b[208:], i+1)
		binary.NativeEndian.PutUint16(b[212:], unix.AF_INET)
		b[214] = byte(sadb.ModeTunnel)
		binary.NativeEndian.PutUint32(b[224:], 0x1000)
		binary.NativeEndian.PutUint32(b[228:], 0xffffffff)
		ask(msgAllocSPI, b)
	}
	apply(t, k, sadb.OpAddPolicy, pol(sadb.DirOut, 1))
	snap, err := k.Dump(t.Context())
	ok(t, err)
	chunks, at := 0, 0
	err = k.Scan(t.Context(), func(c *sadb.Chunk) error {
		chunks++
		for i, r := range c.Readings {
			sa, err := c.SA(i)
			if at >= len(snap.SAs) || err != nil || r.Key != snap.SAs[at].Key || sa.Key != r.Key ||
				sa.Reqid != snap.SAs[at].Reqid {
				return fmt.Errorf("SA %d: %v, %w", at, r.Key, err)
			}
			at++
		}
		return nil
	})
	ok(t, err)
	policies, print, err := k.ScanPolicies(t.Context(), 0)
	if again, same, err := k.ScanPolicies(t.Context(), print); err != nil || again != nil || same != print || print == 0 {
		t.Errorf("policies that are known: %d, fingerprint %x after %x: %v", len(again), same, print, err)
	}
	if err != nil || at != n || len(snap.SAs) != n || chunks < 2 || len(policies) != 1 || len(snap.Policies) != 1 {
		t.Errorf("%d SAs in %d pieces, of %d in a dump, %d policies of %d: %v", at, chunks, len(snap.SAs), len(policies),
			len(snap.Policies), err)
	}
	enough := errors.New("enough")
	calls := 0
	if err := k.Scan(t.Context(), func(*sadb.Chunk) error { calls++; return enough }); !errors.Is(err, enough) ||
		calls != 1 {
		t.Errorf("%d calls after an error: %v", calls, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := k.Scan(ctx, func(*sadb.Chunk) error { cancel(); return nil }); err == nil {
		t.Error("a scan outlives its context")
	}
	if _, err := k.Dump(ctx); err == nil {
		t.Error("a dump outlives its context")
	}
	if snap, err := k.Dump(t.Context()); err != nil || len(snap.SAs) != n {
		t.Errorf("a dump after what was broken off: %v", err)
	}
}
