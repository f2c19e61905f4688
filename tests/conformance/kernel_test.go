package conformance

import (
	"errors"
	"io/fs"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/kerneltest"
	"sasyncd/kernel/link"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

func manyPolicies(n int) (ops []sadb.Op) {
	for i := range n {
		p := kerneltest.SamplePolicy(sadb.DirOut, "10.1.0.0/16", "10.2.0.0/16", "192.0.2.1", "198.51.100.1")
		p.Key.IfID = uint32(i + 1)
		ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: p})
	}
	return ops
}

func TestLostEventsAskForADump(t *testing.T) {
	enterNS(t)
	k, err := xfrm.New(xfrm.Options{EventBuffer: 256 << 10})
	must(t, err)
	defer k.Close()
	other := openKernel(t)
	events, err := k.Watch(t.Context())
	must(t, err)
	const n = 5000 // more than queue and buffer hold
	mustApply(t, other, manyPolicies(n)...)

	puts := 0
	deadline := time.After(30 * time.Second)
	next := func() sadb.Event {
		t.Helper()
		select {
		case ev, ok := <-events:
			if !ok {
				t.Fatal("channel closed")
			}
			return ev
		case <-deadline:
			t.Fatalf("no further event after %d", puts)
		}
		return sadb.Event{}
	}
	for {
		ev := next()
		if ev.Kind == sadb.EventResync {
			break
		}
		puts++
	}
	if puts >= n || k.Resyncs() == 0 {
		t.Errorf("%d events and %d losses, want fewer than %d and at least one", puts, k.Resyncs(), n)
	}
	snap, err := k.Dump(t.Context())
	must(t, err)
	if len(snap.Policies) != n {
		t.Errorf("dump has %d policies, want %d", len(snap.Policies), n)
	}
	// What comes now may be older than the dump, but nothing is missed: either
	// the deletion is announced, or a loss is, when the changes above have
	// filled the socket that the watcher opened meanwhile as well.
	for _, one := range snap.Policies {
		mustApply(t, k, sadb.Op{Kind: sadb.OpDeletePolicy, Policy: one})
		ev := next()
		for ev.Kind != sadb.EventResync && (ev.Kind != sadb.EventDeletePolicy || ev.Policy.Key != one.Key) {
			ev = next()
		}
		if ev.Kind == sadb.EventResync {
			continue // as often as the changes above allow
		}
		if !ev.Own {
			t.Error("the deletion is not announced as our own")
		}
		return
	}
	t.Error("no deletion was announced")
}

func TestWatchEndsWhileAConsumerSleeps(t *testing.T) {
	enterNS(t)
	k := openKernel(t)
	_, err := k.Watch(t.Context()) // nobody reads; the test's end waits for nothing
	must(t, err)
	mustApply(t, k, manyPolicies(2000)...)
}

func TestWithoutPrivilege(t *testing.T) {
	enterNS(t)
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	must(t, unix.Capset(&hdr, &none[0])) // of this thread, which ends with the test
	_, err := xfrm.New(xfrm.Options{})
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v, want %v", err, fs.ErrPermission)
	}
}

func TestFacts(t *testing.T) {
	enterNS(t)
	run(t, `
		ip xfrm policy set hthresh4 24 16 hthresh6 48 40
		ip xfrm policy setdefault out block
		ip link add v0 type veth peer name v1
		ip link set v0 up
		ip addr add 10.1.0.2/24 dev v0
		ip addr add 192.0.2.1/32 dev v0 valid_lft 100 preferred_lft 100
		ip addr add fd00:1::2/64 dev v0 nodad`)
	k := openKernel(t)
	mustApply(t, k, manyPolicies(3)...)
	info, err := k.SPDInfo(t.Context())
	must(t, err)
	if info.Out != 3 || info.In != 0 || info.Local4 != 24 || info.Remote4 != 16 || info.Local6 != 48 ||
		info.Remote6 != 40 {
		t.Errorf("policy database %+v", info)
	}
	defaults, err := k.Defaults(t.Context())
	must(t, err)
	if want := (xfrm.Defaults{OutBlocked: true}); defaults != want {
		t.Errorf("defaults %+v, want %+v", defaults, want)
	}
	links, err := link.Open(nil)
	must(t, err)
	defer func() { must(t, links.Close()) }()
	addrs, err := links.Addrs(t.Context())
	must(t, err)
	want := map[string]string{"127.0.0.1/8": "lo", "::1/128": "lo", "10.1.0.2/24": "v0", "192.0.2.1/32": "v0",
		"fd00:1::2/64": "v0"}
	for _, a := range addrs {
		if a.Prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		if want[a.Prefix.String()] != a.Interface || a.Loopback != (a.Interface == "lo") {
			t.Errorf("address %+v", a)
		}
		if leased := a.Prefix.Addr() == netip.MustParseAddr("192.0.2.1"); leased != (a.Valid <= 100) || !leased &&
			a.Valid != link.NoLease {
			t.Errorf("address %+v has the wrong lease", a)
		}
		delete(want, a.Prefix.String())
	}
	if len(want) != 0 {
		t.Errorf("addresses not listed: %v", want)
	}
	if xfrm.Release() == "" || (xfrm.ByteOrder() != "little" && xfrm.ByteOrder() != "big") {
		t.Errorf("release %q, byte order %q", xfrm.Release(), xfrm.ByteOrder())
	}
}
