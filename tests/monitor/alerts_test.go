package monitor

import (
	"flag"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// phase is something that goes wrong: what is done, the alerts that have to
// fire for it, and how it is put right. Before each phase none of its alerts
// fires, and after the last repair they stop.
type phase struct {
	name   string
	cause  func(*world)
	alerts []string
	also   func(*world) // what else is to be seen then
	repair func(*world)
	// follows says that the repair of the phase before is the cause, so that the
	// alerts may fire already.
	follows bool
	// stays says that the alert goes on for long by its own terms.
	stays bool
}

// phases cause every alert of the shipped rules, each by something that really
// happens to real daemons and kernels. The one that says of itself that it is a
// defect, SasyncdDigestMismatch, is caused by one: a sasyncd that forgets
// deletions, built from the same sources.
func phases() []phase {
	var stop func() // traffic
	return []phase{
		{
			name:   "the master's sasyncd stands still",
			cause:  func(w *world) { w.gw1.sasyncd.Signal(syscall.SIGSTOP) },
			alerts: []string{"SasyncdSyncLagHigh"},
			repair: func(w *world) { w.gw1.sasyncd.Signal(syscall.SIGCONT); w.fit() },
		},
		{
			name:   "somebody demotes the standby",
			cause:  func(w *world) { w.must(w.gw2.carpctl("demote " + group + " 20 drill")) },
			alerts: []string{"CarpdDemoted"},
			repair: func(w *world) { w.must(w.gw2.carpctl("undemote " + group)) },
		},
		{
			name: "somebody deletes an SA on the standby",
			cause: func(w *world) {
				w.gw2.IP("xfrm state delete src " + vip + " dst " + remote +
					" proto esp spi 0x1002")
			},
			alerts: []string{"SasyncdRepairs"},
			repair: func(w *world) { w.fit() },
		},
		{
			name: "an SA of the standby's own is in the way of a replica",
			cause: func(w *world) {
				w.gw2.IP(sa(w.gw2.addr, remote, 10, ""))
				w.gw1.IP(tunnel(5, "", "")...)
			},
			alerts: []string{"SasyncdKernelRefuses"},
			repair: func(w *world) {
				w.gw2.IP("xfrm state delete src " + w.gw2.addr + " dst " + remote + " proto esp spi 0x100a")
				w.fit()
			},
		},
		{
			name: "an SA without extended numbers is near its end and in use",
			cause: func(w *world) {
				w.gw1.IP(tunnel(6, "replay-oseq 0xffff0000", "")...)
				w.remote.IP(tunnel(6, "", "")...)
				stop = w.send(w.gw1.Node, vip, behind, 20*time.Millisecond)
			},
			alerts: []string{"SasyncdUncovered", "SasyncdCountersRunOut"},
			repair: func(w *world) {
				stop()
				for _, nd := range []string{"10.1.0.1 dst 10.1.0.50 proto esp spi 0x100c",
					"10.1.0.50 dst 10.1.0.1 proto esp spi 0x100d"} {
					w.gw1.IP("xfrm state delete src " + nd)
				}
				w.fit()
			},
		},
		{
			name: "the remote gateway sends the numbers of before once more",
			cause: func(w *world) {
				w.gw1.IP(tunnel(7, "", "replay-seq 0x20000")...)
				w.remote.IP("xfrm state flush")
				w.remote.IP(tunnel(7, "", "")...)
				stop = w.send(w.remote, behind, vip, 50*time.Millisecond)
			},
			alerts: []string{"SasyncdReplayErrors"},
			repair: func(w *world) { stop() },
		},
		{
			name: "events of the kernel get lost",
			cause: func(w *world) {
				w.gw2.IP("xfrm policy add dir out src 10.99.0.1/32 dst 10.99.0.2/32 action block")
				for range 5 {
					w.overrun(w.gw2)
					w.is(w.gw2, "sasyncd", `sasyncd_in_sync{group!=""%s} == 1`)
				}
			},
			alerts: []string{"SasyncdNetlinkOverrun"},
			repair: func(w *world) {
				w.gw2.IP("xfrm policy delete dir out src 10.99.0.1/32 dst 10.99.0.2/32")
				w.fit()
			},
		},
		{
			name: "a standby with a defect forgets deletions",
			cause: func(w *world) {
				w.gw2.stopSasyncd()
				w.gw2.startSasyncd(forgetful, "none")
				w.fit()
				w.gw1.IP("xfrm state delete src " + remote + " dst " + vip + " proto esp spi 0x100b")
			},
			alerts: []string{"SasyncdDigestMismatch"},
			repair: func(w *world) {
				w.gw2.stopSasyncd()
				w.gw2.startSasyncd("sasyncd", "none")
				w.fit()
			},
		},
		{
			name: "the standby has another key",
			cause: func(w *world) {
				w.gw2.stopSasyncd()
				w.gw2.key = strings.Replace(drillKey, "0x01", "0x10", 1)
				w.gw2.startSasyncd("sasyncd", "none")
			},
			alerts: []string{"SasyncdPeerDown", "SasyncdNotInSync"},
			repair: func(w *world) {
				w.gw2.stopSasyncd()
				w.gw2.key = drillKey
				w.gw2.startSasyncd("sasyncd", "none")
				w.fit()
			},
		},
		{
			name: "a daemon starts again and again",
			cause: func(w *world) {
				for range 4 {
					w.gw2.stopSasyncd()
					w.gw2.startSasyncd("sasyncd", "none")
					w.gw2.sasyncd.WaitLog("ready", limit)
					time.Sleep(2 * time.Second) // for the server to see this start
				}
			},
			alerts: []string{"GatewayRestarts"},
			repair: func(w *world) { w.fit() },
		},
		{
			name: "a stranger advertises our router in another version of the protocol",
			cause: func(w *world) {
				dir := w.stranger.Dir()
				w.stranger.Exec("carpd", exec.Command(program(w.t, "carpd"), "-c", w.stranger.WriteFile("carpd.conf",
					fmt.Sprintf(
						`vrrp other { carpdev eth0; version 2; vrid 10; priority 50; interval 1s; address 10.1.0.9/32 }
socket "%[1]s/carpd.sock"
statedir "%[1]s/carpd"
`, dir))))
			},
			alerts: []string{"CarpdRejects"},
			repair: func(w *world) { w.stranger.KillDaemons() },
		},
		{
			name: "mastership goes to and fro",
			cause: func(w *world) {
				for i := 0; !slices.Contains(w.firing(), "CarpdFlapping"); i++ {
					if i == 60 {
						w.t.Fatalf("CarpdFlapping does not fire after %d seconds", i)
					}
					for _, g := range w.gateways() {
						g.carpctl("resign " + group) // one of them is MASTER
					}
					time.Sleep(time.Second)
				}
			},
			alerts: []string{"CarpdFlapping"},
			repair: func(w *world) { w.back() },
		},
		{
			name:   "the switch carries nothing between the gateways, whose cables look well",
			cause:  func(w *world) { w.isolate("on") },
			alerts: []string{"SasyncdTwoMasters"},
			repair: func(w *world) { w.isolate("off") },
		},
		{
			name:    "they meet again",
			cause:   func(*world) {},
			alerts:  []string{"SasyncdSplitSeen"},
			repair:  func(w *world) { w.back() },
			follows: true,
		},
		{
			name:   "the standby's sasyncd dies",
			cause:  func(w *world) { w.gw2.sasyncd.Kill() },
			alerts: []string{"SasyncdDown", "CarpdWouldNotTakeOver", "SasyncdFailoverNotReady"},
			repair: func(*world) {},
			stays:  true,
		},
		{
			name: "then the power of the master is cut",
			cause: func(w *world) {
				for _, d := range []interface{ Signal(syscall.Signal) }{w.gw1.carpd, w.gw1.sasyncd} {
					d.Signal(syscall.SIGSTOP)
				}
				w.gw1.port.Pull()
				w.gw1.KillDaemons()
			},
			alerts: []string{"CarpdDown", "CarpdNoMaster"},
			repair: func(w *world) { w.gw2.startSasyncd("sasyncd", "none") },
			stays:  true,
		},
		{
			name:   "the standby takes over once it can",
			cause:  func(w *world) { w.is(w.gw2, "carpd", `carpd_state{state="master"%s} == 1`) },
			alerts: []string{"CarpdTakeoverSlow"},
			also: func(w *world) {
				w.is(w.gw2, "carpd", `carpd_transitions_total{from="backup",to="master"%s} >= 1`)
				w.is(w.gw2, "carpd", `carpd_last_takeover_gap_seconds{group!=""%s} > 2`)
				w.waitFiring("CarpdNoMaster", false)
			},
			repair: func(w *world) {
				w.gw1.port.Replug()
				w.gw1.startCarpd()
				w.gw1.startSasyncd("sasyncd", "none")
				w.back()
			},
			stays: true, // for 10 minutes
		},
		{
			name: "the IKE daemon of the master gets no answer from a remote end",
			cause: func(w *world) {
				w.gw1.stopSasyncd()
				stage := w.charon(w.gw1)
				w.gw1.startSasyncd("sasyncd", "strongswan", stage...)
				w.back()
			},
			alerts: []string{"SasyncdTunnelsMissing"},
			repair: func(w *world) {
				w.gw1.stopSasyncd()
				w.gw1.startSasyncd("sasyncd", "none")
				w.back()
			},
		},
		{
			name: "another program has the device of the leak guard's routes",
			cause: func(w *world) {
				w.gw2.stopSasyncd()
				w.gw2.IP("link add sasyncd-null type bridge")
				w.gw2.startSasyncd("sasyncd", "none\nguard routes")
			},
			alerts: []string{"SasyncdGuardBroken"},
			repair: func(w *world) {
				w.gw2.IP("link del sasyncd-null")
				w.fit()
			},
		},
	}
}

// elsewhere are alerts that no phase causes, each with the reason.
var elsewhere = map[string]string{
	"SasyncdLeaksStopped": "the guest's kernel cannot have the table that counts: tests/drills has it count, under qemu",
}

// must ends the test for an error.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// isolate cuts the gateways off from each other; "off" undoes it.
func (w *world) isolate(how string) {
	for _, g := range w.gateways() {
		w.net.Fabric().Run("ip link set dev " + g.port.Outer + " type bridge_slave isolated " + how)
	}
}

// from is for who works on a later phase.
var from = flag.Int("from", 0, "phase to begin with, counted from 0")

// TestEveryAlertFires: on a healthy pair under traffic nothing fires; each
// alert of the shipped rules fires for what it is about, and stops afterwards.
func TestEveryAlertFires(t *testing.T) {
	all := phases()
	var caused []string
	for _, p := range all {
		caused = append(caused, p.alerts...)
	}
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(shippedRules(t), -1) {
		if !slices.Contains(caused, m[1]) && elsewhere[m[1]] == "" {
			t.Fatalf("no phase of the drill causes %s", m[1])
		}
	}
	w := newWorld(t)
	w.back() // whoever was faster
	w.statusPages()
	stop := w.send(w.gw1.Node, vip, behind, 50*time.Millisecond)
	if *from == 0 {
		w.quiet(40 * time.Second)
	}
	stop()
	for _, p := range all[*from:] {
		begun := time.Now()
		for _, name := range p.alerts {
			if !p.follows {
				w.waitFiring(name, false)
			}
		}
		p.cause(w)
		for _, name := range p.alerts {
			w.waitFiring(name, true)
		}
		if p.also != nil {
			p.also(w)
		}
		t.Logf("%s: %s (all that fire: %s)", p.name, strings.Join(p.alerts, ", "), strings.Join(w.firing(), ", "))
		p.repair(w)
		if !p.stays {
			for _, name := range p.alerts {
				w.waitFiring(name, false)
			}
		}
		t.Logf("over after %v", time.Since(begun).Round(time.Second))
	}
}

// quiet requires that nothing fires for a while. What was wrong while the pair
// came up may first come to an end.
func (w *world) quiet(while time.Duration) {
	w.t.Helper()
	for len(w.firing()) > 0 {
		time.Sleep(time.Second) // ended by the test's own limit
	}
	for begun := time.Now(); time.Since(begun) < while; time.Sleep(time.Second) {
		if f := w.firing(); len(f) > 0 {
			w.t.Fatalf("%v fire on a healthy pair", f)
		}
	}
}

// statusPages looks at what a person would, of a healthy pair.
func (w *world) statusPages() {
	w.t.Helper()
	roles := map[*gateway]string{w.gw1: "MASTER", w.gw2: "BACKUP"}
	for _, g := range w.gateways() {
		for _, port := range []string{"9750", "9751"} { // both name the group alike
			for path, wants := range map[string][]string{
				"/status.json": {`"` + group + `":"` + roles[g] + `"`, `"vips":["` + vip + `"]`, `"events":[{`},
				"/healthz":     {"ok"}, "/readyz": {"ok"}, "/": {"<!doctype html>"},
			} {
				page, err := w.get(g.watched+":"+port, path)
				w.must(err)
				for _, want := range wants {
					if !strings.Contains(page, want) {
						w.t.Errorf("%s of %s:%s lacks %s: %s", path, g.Name, port, want, page)
					}
				}
				if strings.Contains(page, drillKey[2:10]) {
					w.t.Errorf("%s of %s:%s has the key", path, g.Name, port)
				}
			}
		}
	}
}
