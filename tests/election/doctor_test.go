package election

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/tests/harness/lab"
)

// doctor names what is wrong and says what to do, with its exit code.
func TestDoctor(t *testing.T) {
	t.Parallel()
	_, a, b := run(t)
	doctor := func(g *gateway) (string, int) {
		t.Helper()
		var out string
		var code int
		// Raw sockets and sysctls are those of the namespace of the caller.
		if err := g.Do(func() error { out, code = g.ctl("doctor"); return nil }); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out), " "), code // whatever lines it is broken into
	}
	for _, g := range []*gateway{a, b} {
		if out, code := doctor(g); code != 0 || strings.Contains(out, "PROBLEM") {
			t.Errorf("healthy %s: %d\n%s", g.Name, code, out)
		}
	}
	// What a firewall on protocol 112 does to others; carpd goes on.
	b.Sysctl("net/ipv4/conf/all/rp_filter=1", "net/ipv4/conf/in0/rp_filter=1")
	b.IP("rule add pref 1 to 10.1.0.0/24 prohibit")
	if out, code := doctor(b); code != 0 || !strings.Contains(out, "note: in0: carpd hears") {
		t.Errorf("firewall: %d\n%s", code, out)
	}
	// CARP with our number.
	carp := append([]byte{0x21, 10, 0, 7, 0, 1, 0, 0}, make([]byte, 28)...)
	f := packet.Frame{Dst: packet.GroupMAC(packet.Group4()), Src: packet.MAC{2, 0, 0, 0, 0, 9},
		SrcIP: addr("10.1.0.77"),
		DstIP: packet.Group4(), TTL: 255, Proto: packet.Protocol, Payload: carp}
	frame, err := f.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	err = a.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: 2})
	})
	if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, "the foreign advertisement is noticed",
		func() bool { return len(b.state().Instances[0].Routers[0].Refusals) > 0 })
	if out, code := doctor(b); code != 1 || !strings.Contains(out, "CARP is spoken with our id") ||
		!strings.Contains(out, "another number") {
		t.Errorf("CARP: %d\n%s", code, out)
	}
	b.d.Kill()
	if out, code := doctor(b); code != 3 {
		t.Errorf("without carpd: %d\n%s", code, out)
	}
}
