package native

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/leakguard"
	"sasyncd/sync/guard"
	"sasyncd/tests/bench/result"
	"sasyncd/tests/harness/lab"
)

const (
	guardRuns    = 7
	guardPackets = 50_000 // of a run
	guardSource  = "10.1.0.1"
	// guardOpen is a destination that no selector has, guardClosed one that all tables have.
	guardOpen, guardClosed = "198.51.100.7", "172.16.0.7"
)

// BenchmarkLeakGuard is what the table of the leak guard costs a packet that the gateway
// sends, beside the same without a table, and what it takes to set the table. A packet that
// is forwarded passes the table once more, for flowtables.
func BenchmarkLeakGuard(b *testing.B) {
	gw := guardStage(b)
	var f *leakguard.Filter
	if err := gw.Do(func() (err error) { f, err = leakguard.New(); return err }); err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for _, n := range []int{100, 10_000, 100_000} {
		p := guard.Compile(guardRules(n))
		began := time.Now()
		if err := f.Set(b.Context(), p, leakguard.Own{}); err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		report.Lines = append(report.Lines, result.Line{What: fmt.Sprintf("leak guard: set a table of %d selectors", n),
			Figure: ms(took), Verdict: result.Beside, Machine: result.Machine(false)})
		if n == 100_000 {
			continue
		}
		guardCost(b, gw, f, fmt.Sprintf("unprotected packet, %d selectors", n), guardOpen, p)
		what := fmt.Sprintf("encrypted packet, %d selectors", n)
		if !guardTunnel(gw) {
			report.Lines = append(report.Lines, result.Line{What: "leak guard: " + what, Figure: "-",
				Verdict: result.NotShown, Machine: result.Machine(false), Note: "this kernel has no ESP"})
			continue
		}
		guardCost(b, gw, f, what, guardClosed, p)
		gw.IP("xfrm policy flush", "xfrm state flush")
	}
	if err := f.Remove(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// guardCost sends with and without the table in turns, and reports the median of both.
func guardCost(b *testing.B, gw *lab.Node, f *leakguard.Filter, what, dst string, p guard.Program) {
	b.Helper()
	var with, without []time.Duration
	for range guardRuns {
		if err := f.Remove(b.Context()); err != nil {
			b.Fatal(err)
		}
		without = append(without, guardSend(b, gw, dst))
		if err := f.Set(b.Context(), p, leakguard.Own{}); err != nil {
			b.Fatal(err)
		}
		with = append(with, guardSend(b, gw, dst))
	}
	if n, err := f.Drops(b.Context()); err != nil || n != 0 {
		b.Fatalf("%s: %d packets dropped, %v", what, n, err)
	}
	slices.Sort(with)
	slices.Sort(without)
	mine, floor := with[guardRuns/2], without[guardRuns/2]
	b.ReportMetric(float64((mine - floor).Nanoseconds()), "ns/"+strings.ReplaceAll(what, " ", "-"))
	report.Lines = append(report.Lines, result.Line{What: "leak guard: " + what,
		Figure: fmt.Sprintf("%d ns", mine.Nanoseconds()), Floor: fmt.Sprintf("%d ns without", floor.Nanoseconds()),
		Ratio: float64(mine) / float64(floor), Verdict: result.Beside, Machine: result.Machine(false),
		Note: fmt.Sprintf("sent by the gateway itself, medians of %d runs in turns, %d to %d ns with the table", guardRuns,
			with[0].Nanoseconds(), with[guardRuns-1].Nanoseconds())})
}

// guardStage is a gateway with a neighbour that takes what it gets for nobody's.
func guardStage(b *testing.B) *lab.Node {
	b.Helper()
	n := lab.New(b)
	gw := n.Node("gw")
	gw.Plug(n.Switch("wan"), "wan0", "192.0.2.1/24")
	gw.IP("addr add "+guardSource+"/32 dev lo", "neigh add 192.0.2.2 lladdr 02:00:5e:00:53:01 dev wan0 nud permanent",
		"route add default via 192.0.2.2")
	return gw
}

// guardRules require IPsec for n networks behind one.
func guardRules(n int) (rules []guard.Rule) {
	src := netip.MustParsePrefix("10.1.0.0/24")
	for i := range n {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(172 + i>>20), byte(16 + i>>16&15), byte(i >> 8), byte(i)}), 32)
		rules = append(rules, guard.Rule{Selector: guard.Selector{Src: src, Dst: dst}, Require: true})
	}
	return rules
}

// guardTunnel makes the tunnel of guardClosed, and reports whether the kernel can.
func guardTunnel(gw *lab.Node) bool {
	for _, line := range []string{
		"ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1001 reqid 1 mode tunnel aead rfc4106(gcm(aes)) 0x" +
			strings.Repeat("5a", 20) + " 128",
		"ip xfrm policy add dir out src 10.1.0.0/24 dst " + guardClosed + "/32 tmpl src 192.0.2.1 dst 192.0.2.2 proto esp " +
			"reqid 1 mode tunnel",
	} {
		if _, err := gw.Try(line); err != nil {
			return false
		}
	}
	return true
}

// guardSend sends datagrams, and returns what one takes.
func guardSend(b *testing.B, gw *lab.Node, dst string) (each time.Duration) {
	b.Helper()
	err := gw.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(guardSource).As4()}); err != nil {
			return err
		}
		to := &unix.SockaddrInet4{Port: 9, Addr: netip.MustParseAddr(dst).As4()}
		payload := make([]byte, 64)
		began := time.Now()
		for range guardPackets {
			if err := unix.Sendto(fd, payload, 0, to); err != nil {
				return err
			}
		}
		each = time.Since(began) / guardPackets
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return each
}
