package leakguard

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"sasyncd/sync/guard"
)

// What the kernel makes of the rules is shown with packets in classes_test.go.

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestKeys: a key is what the registers hold when a packet's fields are loaded.
func TestKeys(t *testing.T) {
	mark := native.AppendUint32(nil, 0x2a)
	for _, tc := range []struct {
		name  string
		shape guard.Shape
		key   guard.Key
		want  []byte
	}{
		{"addresses", guard.Shape{SrcBits: 24, DstBits: 16},
			guard.Key{Src: addr("10.1.2.0"), Dst: addr("10.2.0.0")}, []byte{10, 2, 0, 0, 10, 1, 2, 0}},
		{"what is not masked", guard.Shape{SrcBits: 24, DstBits: 16},
			guard.Key{Src: addr("10.1.2.3"), Dst: addr("10.2.3.4")}, []byte{10, 2, 0, 0, 10, 1, 2, 0}},
		{"one field alone is not padded", guard.Shape{Proto: true},
			guard.Key{Src: addr("0.0.0.0"), Dst: addr("0.0.0.0"), Proto: 47}, []byte{47}},
		{"ports", guard.Shape{SrcBits: 0, DstBits: 32, Ports: guard.TransportPorts, DstPortMask: 0xfff0},
			guard.Key{Src: addr("0.0.0.0"), Dst: addr("10.2.3.4"), DstPort: 0x1230},
			[]byte{10, 2, 3, 4, 0x12, 0x30, 0, 0}},
		{"mark", guard.Shape{DstBits: 8, MarkMask: 0xff},
			guard.Key{Src: addr("0.0.0.0"), Dst: addr("10.0.0.0"), Mark: 0x2a}, append([]byte{10, 0, 0, 0}, mark...)},
		{"types", guard.Shape{DstBits: 8, Ports: guard.ICMPTypes, SrcPortMask: 0xff, DstPortMask: 0xff},
			guard.Key{Src: addr("0.0.0.0"), Dst: addr("10.0.0.0"), SrcPort: 3, DstPort: 4},
			[]byte{10, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0}},
	} {
		s := tc.shape
		fields := compared(slices.Concat(addresses(s), []field{markField(s), protocolField(s)}, portFields(s))...)
		if got := keyOf(fields, tc.key); !bytes.Equal(got, tc.want) {
			t.Errorf("%s: %x, want %x", tc.name, got, tc.want)
		}
	}
}

// TestFiveFields: nft(8) cannot print a set of six.
func TestFiveFields(t *testing.T) {
	s := guard.Shape{IPv6: true, SrcBits: 64, DstBits: 64, Proto: true, Ports: guard.TransportPorts,
		SrcPortMask: 0xffff, DstPortMask: 0xffff, MarkMask: ^uint32(0)}
	key := guard.Key{Src: addr("fd01::"), Dst: addr("fd02::"), Proto: 6, SrcPort: 1, DstPort: 2, Mark: 3}
	udp := key
	udp.Proto = 17
	w, err := wallOf(guard.Program{Layers: []guard.Layer{{Require: true,
		Classes: []guard.Class{{Shape: s, Keys: []guard.Key{key, udp}}}}}}, Own{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range w.sets[6:] {
		names = append(names, fmt.Sprintf("%s: %d of %d bytes", x.name, len(x.keys), x.kind.Bytes))
	}
	if diff := cmp.Diff([]string{
		"need0-0-tcp: 1 of 44 bytes", "need0-0-tcp-later: 1 of 36 bytes", "need0-0-tcp-quoted0: 1 of 16 bytes",
		"need0-0-udp: 1 of 44 bytes", "need0-0-udp-later: 1 of 36 bytes", "need0-0-udp-quoted0: 1 of 16 bytes",
	}, names); diff != "" {
		t.Error(diff)
	}
}

// TestClassesHaveChains: which chains ask a class, and that ports are never asked of a
// later fragment, nor marks of a packet that is quoted.
func TestClassesHaveChains(t *testing.T) {
	for _, tc := range []struct {
		name    string
		require bool
		ports   guard.Ports
		mark    uint32
		want    string
	}{
		{"addresses that require", true, guard.NoPorts, 0,
			"ipv4 need0-0, ipv4-later need0-0, ipv4-quoted need0-0-quoted0"},
		{"addresses that pass", false, guard.NoPorts, 0,
			"ipv4 pass0-0, ipv4-later pass0-0, ipv4-quoted pass0-0-quoted0"},
		{"ports that require", true, guard.TransportPorts, 0,
			"ipv4 need0-0-udp, ipv4-later need0-0-udp-later, ipv4-quoted need0-0-udp-quoted0"},
		{"ports that pass", false, guard.TransportPorts, 0, "ipv4 pass0-0-udp"},
		{"types that require", true, guard.ICMPTypes, 0,
			"ipv4 need0-0, ipv4-later need0-0-later, ipv4-quoted need0-0-quoted0"},
		{"a mark that requires", true, guard.NoPorts, 1,
			"ipv4 need0-0, ipv4-later need0-0, ipv4-quoted need0-0-quoted0"},
		{"a mark that passes", false, guard.NoPorts, 1, "ipv4 pass0-0, ipv4-later pass0-0"},
	} {
		s := guard.Shape{SrcBits: 24, DstBits: 24, Ports: tc.ports, MarkMask: tc.mark}
		proto := uint8(0)
		if tc.ports != guard.NoPorts {
			s.Proto, s.DstPortMask = true, 0xff
			proto = map[guard.Ports]uint8{guard.TransportPorts: unix.IPPROTO_UDP, guard.ICMPTypes: unix.IPPROTO_ICMP}[tc.ports]
		}
		w, err := wallOf(guard.Program{Layers: []guard.Layer{{Require: tc.require, Classes: []guard.Class{{Shape: s,
			Keys: []guard.Key{{Src: addr("10.1.0.0"), Dst: addr("10.2.0.0"), Proto: proto, DstPort: 9,
				Mark: tc.mark}}}}}}}, Own{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range w.rules {
			for _, x := range r.what {
				if l, ok := x.(*expr.Lookup); ok && strings.Contains(l.SetName, "0-0") {
					got = append(got, r.chain+" "+l.SetName)
				}
			}
		}
		if all := strings.Join(got, ", "); all != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, all, tc.want)
		}
		seen := map[string]bool{}
		for _, x := range w.sets {
			if seen[x.name] {
				t.Errorf("%s: the set %s is there twice", tc.name, x.name)
			}
			seen[x.name] = true
		}
	}
}

// TestManySources: a class of too many sources has one rule for errors where it requires
// IPsec, which drops more, and none where it passes.
func TestManySources(t *testing.T) {
	for _, require := range []bool{true, false} {
		for n, want := range map[int]int{1: 1, maxQuoted: maxQuoted, maxQuoted + 1: map[bool]int{true: 1}[require]} {
			c := guard.Class{Shape: guard.Shape{SrcBits: 32, DstBits: 24}}
			for i := range n {
				c.Keys = append(c.Keys, guard.Key{Src: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}),
					Dst: addr("10.2.0.0")})
			}
			w, err := wallOf(guard.Program{Layers: []guard.Layer{{Require: require, Classes: []guard.Class{c}}}}, Own{})
			if err != nil {
				t.Fatal(err)
			}
			rules, sources := 0, 0
			for _, r := range w.rules {
				if r.chain != quotedChain(false) {
					continue
				}
				rules++
				for _, x := range r.what {
					if p, ok := x.(*expr.Payload); ok && p.Base == expr.PayloadBaseTransportHeader {
						sources++
					}
				}
			}
			if wantSources := want * map[bool]int{true: 1}[n <= maxQuoted]; rules != want || sources != wantSources {
				t.Errorf("%d sources, require %v: %d rules with %d sources, want %d with %d", n, require, rules, sources,
					want, wantSources)
			}
		}
	}
}

// TestRefused: a class that no rule can express is an error and not left out.
func TestRefused(t *testing.T) {
	ok := guard.Key{Src: addr("10.1.0.0"), Dst: addr("10.2.0.0")}
	for name, c := range map[string]guard.Class{
		"another family": {Shape: guard.Shape{IPv6: true}, Keys: []guard.Key{ok}},
		"no addresses":   {Keys: []guard.Key{{}}},
		"too long":       {Shape: guard.Shape{SrcBits: 33}, Keys: []guard.Key{ok}},
		"ports of GRE": {Shape: guard.Shape{Proto: true, Ports: guard.TransportPorts},
			Keys: []guard.Key{{Src: ok.Src, Dst: ok.Dst, Proto: 47}}},
		"types of UDP": {Shape: guard.Shape{Proto: true, Ports: guard.ICMPTypes},
			Keys: []guard.Key{{Src: ok.Src, Dst: ok.Dst, Proto: 17}}},
	} {
		if _, err := wallOf(guard.Program{Layers: []guard.Layer{{Classes: []guard.Class{c}}}}, Own{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, p := range map[string]Pair{
		"nothing":      {},
		"two families": {Src: netip.MustParsePrefix("10.1.0.0/24"), Dst: netip.MustParsePrefix("fd00::/64")},
	} {
		if _, err := wallOf(guard.Program{}, Own{Pass: []Pair{p}}); err == nil {
			t.Errorf("a pair of %s: no error", name)
		}
	}
}

// TestOwnTraffic: what a gateway sends itself, or by tunnel interfaces of any kind, passes;
// what is named twice is asked once.
func TestOwnTraffic(t *testing.T) {
	if got := (Own{IKEPorts: []uint16{4501, 500, 4501, 1}}).ports(); !slices.Equal(got, []uint16{1, 500, 4500, 4501}) {
		t.Errorf("ports %d", got)
	}
	key := func(dst string) guard.Key { return guard.Key{Src: addr("10.1.0.0"), Dst: addr(dst)} }
	w, err := wallOf(guard.Program{Layers: []guard.Layer{{Require: true, Classes: []guard.Class{{
		Shape: guard.Shape{SrcBits: 24, DstBits: 24},
		Keys:  []guard.Key{key("10.4.0.0"), key("10.2.0.0"), key("10.4.0.0"), key("10.3.0.0"), key("10.2.0.0")}}}}}}, Own{})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(w.sets[len(w.sets)-1].keys); got != 3 {
		t.Errorf("%d keys, want 3", got)
	}
	kinds := make(map[string]bool)
	for _, r := range w.rules {
		for i, m := range r.what {
			if x, ok := m.(*expr.Meta); ok && x.Key == metaOutKind && r.chain == mainChain {
				kinds[string(bytes.TrimRight(r.what[i+1].(*expr.Cmp).Data, "\x00"))] = true
			}
		}
	}
	for _, kind := range []string{"xfrm", "vti", "vti6"} {
		if !kinds[kind] {
			t.Errorf("what leaves by %s does not pass", kind)
		}
	}
}

// TestTally: the total goes on where a counter goes, is set to zero, or begins with it.
func TestTally(t *testing.T) {
	var c tally
	for i, step := range []struct{ now, want uint64 }{{5, 5}, {7, 7}, {2, 9}, {2, 9}} {
		if c.add(volume{packets: step.now, bytes: 100 * step.now}); c.total.packets != step.want {
			t.Errorf("step %d: %d, want %d", i, c.total.packets, step.want)
		}
	}
	// Set to zero, and counted larger packets since.
	if c.add(volume{1, 9000}); c.total.packets != 10 {
		t.Errorf("fewer packets, more bytes: %+v", c.total)
	}
	if c.add(volume{2, 100}); c.total.packets != 12 {
		t.Errorf("more packets, fewer bytes: %+v", c.total)
	}
	c.seed()
	c.total = volume{9, 900}
	c.seed()
	if c.add(volume{10, 1000}); c.total != (volume{10, 1000}) {
		t.Errorf("behind a seed: %+v", c.total)
	}
}

func TestFirstOf(t *testing.T) {
	err := fmt.Errorf("batch: %w", errors.Join(errors.Join(errors.Join(nil, unix.ENOENT), unix.EINVAL), unix.EBUSY))
	if got := firstOf(err); got != unix.ENOENT {
		t.Error(got)
	}
	if got := firstOf(unix.EPERM); got != unix.EPERM {
		t.Error(got)
	}
}

// TestUnsupported: a kernel without nf_tables is told from one that lacks a privilege.
func TestUnsupported(t *testing.T) {
	for errno, want := range map[unix.Errno]bool{unix.EPROTONOSUPPORT: true, unix.EINVAL: true, unix.EOPNOTSUPP: true,
		unix.EPERM: false, unix.ENOBUFS: false} {
		err := withoutTables(fmt.Errorf("ask: %w", errno))
		if errors.Is(err, ErrUnsupported) != want || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}
