package election

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// With a lease of the packet filter a node whose carpd is stopped is silent long
// before its addresses go, and a restart that was announced is not disturbed.
func TestPacketLease(t *testing.T) {
	t.Parallel()
	for name, instance := range map[string]string{
		"vrrp": "vrrp inside { carpdev in0; vrid 10; priority %d; interval 100ms; address 10.1.0.1/32; " +
			"address fd00:1::1/128; group gate; lease nftables }",
		"unicast": "vrrp inside { carpdev in0; vrid 10; priority %d; interval 100ms; address 10.1.0.1/32; " +
			"address fd00:1::1/128; unicast { 10.1.0.12 fd00:1::12 }; group gate; lease nftables }",
		"carp": "carp inside { carpdev in0; vhid 10; pass \"love\"; advbase 0; advskew %d; address " +
			"10.1.0.1/32; address fd00:1::1/128; group gate; lease nftables }",
		"virtual MAC": "vrrp inside { carpdev in0; vrid 10; priority %d; interval 100ms; address 10.1.0.1/32; " +
			"address fd00:1::1/128; mac virtual; group gate; lease nftables }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.instances = func(*gateway) string { return fmt.Sprintf(instance, 26) }
			a := p.gws[0]
			if !filters(a.Node) {
				p.refusesToStart(a, "lease addresses")
				return
			}
			p.start(a)
			a.await(api.StateMaster, patience)
			answers := func() bool {
				return p.host.Ping(vipIn, 200*time.Millisecond) == nil &&
					p.host.Ping(vipIn6, 200*time.Millisecond) == nil
			}
			quiet := func() bool {
				return p.host.Ping(vipIn, 100*time.Millisecond) != nil &&
					p.host.Ping(vipIn6, 100*time.Millisecond) != nil
			}
			stays := func(what string, d time.Duration) {
				t.Helper()
				end := time.Now().Add(d)
				lab.Eventually(t, d+time.Second, what, func() bool {
					if !answers() {
						t.Fatalf("%s: no answer", what)
					}
					return time.Now().After(end)
				})
			}
			lab.Eventually(t, patience, "the address answers", answers)
			stays("the master serves", time.Second)

			a.d.Signal(syscall.SIGSTOP)
			lab.Eventually(t, 1500*time.Millisecond, "the stopped node is silent", quiet)
			if a.holds() != 2 {
				t.Errorf("the addresses are gone, so this shows nothing: %d", a.holds())
			}
			a.d.Signal(syscall.SIGCONT)
			a.awaitLog("advertisement late", 1)
			a.await(api.StateMaster, patience)
			lab.Eventually(t, patience, "the address answers again", answers)

			if out, code := a.ctl("freeze", "5"); code != 0 {
				t.Fatalf("freeze: %s", out)
			}
			a.d.Kill()
			stays("carpd is being replaced", time.Second)
			p.start(a)
			a.await(api.StateMaster, patience)
			a.awaitLog("mastership continued", 1)
			stays("carpd was replaced", time.Second)
			a.d.Signal(syscall.SIGSTOP)
			lab.Eventually(t, 1500*time.Millisecond, "the stopped new carpd is silent", quiet)
			a.d.Signal(syscall.SIGCONT)
		})
	}
}
