package election

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/api"
	"sasyncd/carp/packet"
	"sasyncd/tests/harness/lab"
)

// alone cuts a node off from everybody; its carrier stays.
func (g *gateway) alone(yes bool) {
	how := " nomaster"
	for _, port := range []*lab.Port{g.in, g.out} {
		if !yes {
			how = " master " + port.Switch.Name
		}
		g.Net().Fabric().IP("link set dev " + port.Outer + how)
	}
}

// With a witness the node that is cut off takes nothing as a backup and gives
// everything up as the master.
func TestWitness(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.options = "when-split witness 10.3.0.77 10.1.0.100"
	a, b := p.gws[0], p.gws[1]
	p.start(a)
	a.await(api.StateMaster, patience)
	p.start(b)
	b.await(api.StateBackup, patience)
	b.awaitLog("master heard", 4)

	b.alone(true)
	lab.Eventually(t, patience, "the backup misses master and witness", func() bool {
		s := b.state()
		return s.Blocked == "witness not reachable" && s.Instances[0].Routers[0].Expired
	})
	b.awaitFor(time.Duration(b.state().AgeMS)*time.Millisecond + 2*takeover)
	if b.state().State != api.StateBackup || b.holds() != 0 || b.fenced() != 4 {
		t.Error("the node that is cut off took the addresses")
	}
	if a.state().State != api.StateMaster {
		t.Error("the master gave up")
	}
	b.alone(false)
	lab.Eventually(t, patience, "the backup is back", func() bool {
		s := b.state()
		return s.Blocked == "" && !s.Instances[0].Routers[0].Expired
	})

	a.alone(true)
	b.await(api.StateMaster, takeover)
	a.await(api.StateBackup, patience)
	if a.holds() != 0 || a.fenced() != 4 || a.state().Reason != "witness not reachable" {
		t.Errorf("the old master holds %d addresses, fenced %d: %s", a.holds(), a.fenced(), a.state().Reason)
	}
	a.alone(false)
	a.awaitLog("a witness answers", 1)
	a.awaitFor(time.Duration(a.state().AgeMS)*time.Millisecond + takeover)
	if b.state().State != api.StateMaster || a.state().State != api.StateBackup {
		t.Error("mastership moved on return")
	}
	if out, code := a.ctl("reload"); code != 0 {
		t.Errorf("reload: %s", out)
	}
	p.options = "when-split continue"
	p.config(a)
	if _, code := a.ctl("reload"); code != 1 {
		t.Error("the witness was changed by a reload")
	}
}

// Two masters that meet again: the one stays to which sasyncd says that the
// traffic comes, although its priority is lower.
func TestPreferTraffic(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.options = "require sasyncd; when-split prefer-traffic; preempt yes"
	a, b := p.gws[0], p.gws[1]
	clients := map[*gateway]*client{}
	for _, g := range p.gws {
		p.start(g)
		g.await(api.StateBackup, patience)
		clients[g] = g.client(true)
		clients[g].await(t, "snapshot", isSnapshot)
		ready(t, clients[g], api.Ready{InSync: true})
		lab.Eventually(t, patience, "there is a master", func() bool { return a.state().State == api.StateMaster })
	}
	b.awaitLog("master heard", 4)
	for _, g := range []*gateway{b, a} {
		b.alone(true)
		b.await(api.StateMaster, takeover)
		a.await(api.StateMaster, takeover)
		for _, x := range p.gws {
			ready(t, clients[x], api.Ready{InSync: true, Traffic: x == g})
		}
		b.alone(false)
		other := a
		if g == a {
			other = b
		}
		other.await(api.StateBackup, takeover)
		other.awaitFor(2 * takeover)
		if g.state().State != api.StateMaster || other.state().State != api.StateBackup || g.holds() != 4 ||
			other.holds() != 0 {
			t.Errorf("%s has the traffic and is %s, the other is %s", g.Name, g.state().State, other.state().State)
		}
		if g == b {
			if r := other.state().Reason; r != "the other master has the traffic" {
				t.Errorf("reason %q", r)
			}
			// Back, for the next round.
			if out, code := b.ctl("resign", "gate"); code != 0 {
				t.Fatal(out)
			}
			a.await(api.StateMaster, takeover)
		}
	}
}

// record collects frames with advertisements of IPv4 from a source.
func (p *pair) record(src netip.Addr, frames int) [][]byte {
	p.t.Helper()
	var out [][]byte
	err := p.host.Do(func() error {
		fd, err := p.packetSocket(unix.ETH_P_ALL)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var buf [1500]byte
		for end := time.Now().Add(10 * time.Second); len(out) < frames && time.Now().Before(end); {
			n, err := unix.Read(fd, buf[:])
			if err != nil {
				continue
			}
			var f packet.Frame
			if f.Parse(buf[:n]) == nil && f.Proto == packet.Protocol && f.SrcIP == src {
				out = append(out, append([]byte(nil), buf[:n]...))
			}
		}
		return nil
	})
	if err != nil || len(out) < frames {
		p.t.Fatalf("recorded %d advertisements, %v", len(out), err)
	}
	return out
}

// replay sends frames again.
func (p *pair) replay(frames [][]byte) {
	p.t.Helper()
	err := p.host.Do(func() error {
		fd, err := p.packetSocket(0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if _, err := unix.Write(fd, f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) packetSocket(proto uint16) (int, error) {
	l, err := net.InterfaceByName("eth0")
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	limit := unix.NsecToTimeval(int64(time.Second))
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto<<8 | proto>>8, Ifindex: l.Index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// What was recorded before a restart of the receiver, even one that was killed,
// is refused after it. The file makes the difference.
func TestReplayAfterRestart(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.instances = func(g *gateway) string {
		return fmt.Sprintf(`vrrp inside { carpdev in0; vrid 10; priority %d; interval 100ms; address 10.1.0.1/32; group gate; %s; auth enforce }`, g.priority, signKey)
	}
	a, b := p.gws[0], p.gws[1]
	p.start(a)
	a.await(api.StateMaster, patience)
	p.start(b)
	b.awaitLog("master heard", 1)
	frames := p.record(addr("10.1.0.11"), 10)
	trailers := func() map[string]uint64 { return b.state().Instances[0].Routers[0].Trailers }
	lab.Eventually(t, patience, "the backup has heard what was recorded",
		func() bool { return trailers()["genuine"] > 15 })
	for _, kept := range []bool{true, false} {
		b.d.Kill()
		if kept {
			a.d.Kill() // nobody but the replay is heard from now on
		} else {
			b.Run("rm " + filepath.Join(b.Dir(), "state", "marks"))
		}
		p.start(b)
		lab.Eventually(t, patience, "the restarted node answers", func() bool { _, err := b.ask(); return err == nil })
		p.replay(frames)
		lab.Eventually(t, patience, "the replay has arrived", func() bool {
			got := trailers()
			return got["replayed"]+got["genuine"] >= uint64(len(frames))
		})
		if got := trailers(); kept && got["genuine"] != 0 {
			t.Errorf("recorded advertisements were believed: %v", got)
		} else if !kept && got["genuine"] == 0 {
			t.Errorf("without the file the replay is refused too, so this test shows nothing: %v", got)
		}
		b.await(api.StateMaster, patience)
	}
}
