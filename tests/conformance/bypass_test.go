package conformance

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"sasyncd/kernel/link"
	"sasyncd/kernel/rules"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
)

// backup is a lab whose first gateway is master and whose second holds the same
// SAs and policies behind the fence.
type backup struct {
	*lab.Standard
	gw1, gw2 *lab.Gateway
	kernel   *xfrm.Kernel // of gw2
	links    *link.Table
	detour   *rules.Detour
	wire     *capture.Capture
}

func newBackup(t *testing.T) *backup {
	b := &backup{Standard: lab.NewStandard(t, 2)}
	b.gw1, b.gw2 = b.Gateways[0], b.Gateways[1]
	b.gw1.SetVIPs()
	tunnels := lab.Tunnels()
	lab.Install(b.gw1.Node, tunnels)
	lab.Install(b.gw2.Node, tunnels) // with priority 0, and before the bypass
	lab.InstallRemote(b.RGW, tunnels)
	fence := openFence(t, b.gw2.Node, true)
	t.Cleanup(func() { fence.Close() })
	must(t, fence.Set(lab.VIPIn, lab.VIPIn6, lab.VIPOut, lab.VIPOut6))
	must(t, b.gw2.Do(func() (err error) { b.kernel, err = xfrm.New(xfrm.Options{}); return err }))
	t.Cleanup(func() { b.kernel.Close() })
	must(t, b.gw2.Do(func() (err error) { b.links, err = link.Open(nil); return err }))
	t.Cleanup(func() { b.links.Close() })
	must(t, b.gw2.Do(func() (err error) { b.detour, err = rules.OpenDetour(); return err }))
	t.Cleanup(func() { b.detour.Close() })
	b.wire = capture.Start(t, capture.Config{Ports: b.WANPorts(), Inner: lab.Inner()})
	return b
}

func (b *backup) policies(t *testing.T) []*sadb.Policy {
	t.Helper()
	snap, err := b.kernel.Dump(t.Context())
	must(t, err)
	return snap.Policies
}

// own finds the addresses to bypass and checks that they are those inside.
func (b *backup) own(t *testing.T) []xfrm.Own {
	t.Helper()
	addrs, err := b.links.Addrs(t.Context())
	must(t, err)
	own := xfrm.FindOwn(addrs, []netip.Addr{lab.VIPIn, lab.VIPIn6, lab.VIPOut, lab.VIPOut6}, b.policies(t))
	if len(own) != 2 || own[0].Prefix.Addr() != b.gw2.InAddr || own[0].Via != lab.VIPIn ||
		own[1].Prefix.Addr() != b.gw2.InAddr6 || own[1].Via != lab.VIPIn6 {
		t.Fatalf("own addresses inside: %+v", own)
	}
	return own
}

// reach says whether the four ways between the remote host and gw2's own inside
// addresses are open.
func (b *backup) reach() (ways [4]error) {
	ask := func(nd *lab.Node, from, to netip.Addr) error {
		return nd.Do(func() error { return exchange(from, to) })
	}
	return [4]error{
		ask(b.H2, lab.H2Addr, b.gw2.InAddr), ask(b.H2, lab.H2Addr6, b.gw2.InAddr6),
		ask(b.gw2.Node, b.gw2.InAddr, lab.H2Addr), ask(b.gw2.Node, b.gw2.InAddr6, lab.H2Addr6),
	}
}

func (b *backup) requireNoPlaintext(t *testing.T) {
	t.Helper()
	b.wire.Stop()
	if n, what := b.wire.Plaintext(); n != 0 {
		t.Errorf("%d packets of protected networks in plaintext outside: %v", n, what)
	}
}

func TestBypassLetsABackupBeReached(t *testing.T) {
	b := newBackup(t)
	own := b.own(t)
	must(t, b.detour.Set(t.Context(), own...))
	before := b.policies(t)
	mustApply(t, b.kernel, xfrm.BypassOps(own, before)...)
	for i, err := range b.reach() {
		if err != nil {
			t.Errorf("way %d: %v", i, err)
		}
	}
	// Hosts on its link are reached directly, the other gateway too.
	for from, to := range map[netip.Addr]netip.Addr{b.gw2.InAddr: lab.H1Addr, b.gw2.InAddr6: b.gw1.InAddr6} {
		if err := b.gw2.Do(func() error { return exchange(from, to) }); err != nil {
			t.Errorf("from %s to %s: %v", from, to, err)
		}
	}
	after := b.policies(t)
	if n := len(after) - len(before); n != 4 {
		t.Errorf("%d policies more, want two for each address", n)
	}
	if ops := xfrm.BypassOps(own, after); len(ops) != 0 {
		t.Errorf("%d ops where nothing is to be done", len(ops))
	}
	must(t, b.detour.Set(t.Context(), own...))

	// Back to what a master has.
	mustApply(t, b.kernel, xfrm.BypassOps(nil, after)...)
	must(t, b.detour.Set(t.Context()))
	if ops := xfrm.BypassOps(nil, b.policies(t)); len(ops) != 0 || slices.ContainsFunc(b.policies(t), xfrm.IsBypass) {
		t.Error("bypass policies left")
	}
	for _, family := range []string{"-4", "-6"} {
		if out := b.gw2.Run("ip " + family + " rule list pref " + "7"); out != "" {
			t.Errorf("rules left: %s", out)
		}
	}
	b.requireNoPlaintext(t)
}

// TestBypassNeverLeaksOutside takes away what the detour relies on, piece by
// piece, while the backup's own inside addresses send to the remote network.
func TestBypassNeverLeaksOutside(t *testing.T) {
	b := newBackup(t)
	own := b.own(t)
	pause := func() {
		until := time.Now().Add(300 * time.Millisecond)
		lab.Eventually(t, time.Minute, "the time to pass", func() bool { return time.Now().After(until) })
	}
	set := func() {
		must(t, b.detour.Set(t.Context(), own...))
		mustApply(t, b.kernel, xfrm.BypassOps(own, b.policies(t))...)
		pause()
	}
	set()
	port := netip.AddrPortFrom
	talk(t, b.gw2.Node, port(b.gw2.InAddr, 7000), port(lab.H2Addr, 7000))
	talk(t, b.gw2.Node, port(b.gw2.InAddr6, 7000), port(lab.H2Addr6, 7000))
	for range 5 { // to and fro, as roles change
		mustApply(t, b.kernel, xfrm.BypassOps(nil, b.policies(t))...)
		must(t, b.detour.Set(t.Context()))
		set()
	}
	b.gw1.PowerCut() // no master: the VIP does not answer
	pause()
	b.gw2.Run("ip route flush table " + "112000002")
	b.gw2.Run("ip -6 route flush table " + "112000002")
	pause()
	b.gw2.Run("ip link set lan0 down")
	pause()
	b.gw2.Run("ip link set lan0 up")
	pause()
	b.requireNoPlaintext(t)
}
