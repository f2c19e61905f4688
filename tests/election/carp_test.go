package election

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/api"
	"sasyncd/carp/packet"
	"sasyncd/tests/harness/lab"
)

const signKey = "key 1 0123456789abcdef0123456789abcdef"

// carpPair makes instances of CARP, of both families, with 250 ms and 313 ms
// between advertisements.
func carpPair(more string) func(g *gateway) string {
	return func(g *gateway) string {
		skew := 48 + 16*g.n
		return fmt.Sprintf(`
carp inside  { carpdev in0;  vhid 10; pass "love"; advbase 0; advskew %d; address 10.1.0.1/32; address fd00:1::1/128; group gate; %s }
carp outside { carpdev out0; vhid 11; pass "love"; advbase 0; advskew %d; address 10.3.0.1/32; address fd00:3::1/128; group gate; %s }`,
			skew, more, skew, more)
	}
}

// CARP in each way: elect, stay, take over, make room without waiting.
func TestCARP(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]func(g *gateway) string{
		"multicast":          carpPair(""),
		"signed":             carpPair(signKey),
		"on the virtual MAC": carpPair("mac virtual"),
		"unicast": func(g *gateway) string {
			return fmt.Sprintf(`
carp inside { carpdev in0; vhid 10; pass "love"; advbase 0; advskew %d; address 10.1.0.1/32; address fd00:1::1/128; carppeer { 10.1.0.1%d fd00:1::1%d }; group gate }`,
				48+16*g.n, 3-g.n, 3-g.n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.instances = tc
			a, b := p.gws[0], p.gws[1]
			p.start(a)
			a.await(api.StateMaster, patience)
			p.start(b)
			b.awaitLog("master heard", 1)
			b.awaitFor(3 * time.Second)
			if b.state().State != api.StateBackup || a.state().State != api.StateMaster {
				t.Fatal("two masters")
			}
			for _, in := range b.state().Instances {
				for _, r := range in.Routers {
					if r.Dropped != 0 || r.Received == 0 || r.AdvSkew != 80 {
						t.Errorf("%s %s: received %d, dropped %d, advskew %d", in.Name, r.Family, r.Received, r.Dropped,
							r.AdvSkew)
					}
				}
			}
			if out, code := a.ctl("resign", "gate"); code != 0 {
				t.Fatal(out)
			}
			t.Logf("resign: %v", b.await(api.StateMaster, patience))
			if r := b.state().Reason; r != "master resigned" {
				t.Errorf("reason %q", r)
			}
			a.await(api.StateBackup, patience)
			b.d.Kill()
			t.Logf("kill: %v", a.await(api.StateMaster, patience))
		})
	}
}

// Demotion of the master moves a CARP group without preempt and without waiting
// for a timer, because it is compared before timing.
func TestCARPDemotion(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.instances = carpPair("")
	a, b := p.gws[0], p.gws[1]
	p.start(a)
	a.await(api.StateMaster, patience)
	p.start(b)
	b.awaitLog("master heard", 4)
	b.awaitFor(time.Second) // its start-hold is over
	if out, code := a.ctl("demote", "gate", "1"); code != 0 {
		t.Fatal(out)
	}
	t.Logf("demotion: %v", b.await(api.StateMaster, patience))
	a.await(api.StateBackup, patience)
	if r := b.state().Reason; r != "master is demoted" {
		t.Errorf("reason %q", r)
	}
	if a.holds() != 0 || b.holds() != 4 {
		t.Errorf("holds %d and %d", a.holds(), b.holds())
	}
}

// forge sends, from the host inside, what an attacker who knows everything but
// the key can: a bow-out in the name of the master.
func (p *pair) forge(body []byte) {
	p.t.Helper()
	err := p.host.Do(func() error {
		l, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		f := packet.Frame{
			Dst: packet.GroupMAC(packet.Group4()), Src: packet.VirtualMAC(10, false), SrcIP: addr("10.1.0.11"),
			DstIP: packet.Group4(),
			TTL:   255, Proto: packet.Protocol, Payload: body,
		}
		b, err := f.Append(nil)
		if err != nil {
			return err
		}
		return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: l.Index})
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// A forged bow-out moves nothing where keys are enforced. Without keys CARP is
// open to it, which shows that the forgery is a good one.
func TestForgedBowOut(t *testing.T) {
	t.Parallel()
	m := packet.CARP{ID: 10, AdvBase: 255, AdvSkew: 255, Counter: 1}
	m.Digest = packet.NewCARPKey([]byte("love"), 10, allVIPs[:2], false).Digest(1)
	forged := m.Append(nil)
	for _, keys := range []string{"", signKey} {
		name := "signed"
		if keys == "" {
			name = "unsigned"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.instances = func(g *gateway) string {
				return fmt.Sprintf(`carp inside { carpdev in0; vhid 10; pass "love"; advbase 1; advskew %d; address 10.1.0.1/32; address fd00:1::1/128; group gate; %s }`,
					10*g.n, keys)
			}
			a, b := p.gws[0], p.gws[1]
			p.start(a)
			a.await(api.StateMaster, patience)
			p.start(b)
			b.awaitLog("master heard", 2)
			p.forge(forged)
			router := func() api.RouterState { return b.state().Instances[0].Routers[0] }
			if keys != "" {
				lab.Eventually(t, patience, "the forgery is counted",
					func() bool { return router().Trailers["unsigned"] == 1 })
				b.awaitFor(time.Duration(b.state().AgeMS)*time.Millisecond + 2*time.Second)
				if s := b.state(); s.State != api.StateBackup || s.Instances[0].Routers[0].Expired {
					t.Error("a forged bow-out moved mastership")
				}
				return
			}
			// IPv6 still hears the master, so the group stays; this router does not.
			lab.Eventually(t, patience, "the router takes the master for gone", func() bool { return router().Expired })
		})
	}
}
