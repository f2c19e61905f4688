package leakguard_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/leakguard"
	"sasyncd/sync/guard"
	"sasyncd/tests/harness/lab"
)

const nftProgram = "/usr/sbin/nft" // not in everybody's path

// nft has nft(8) load rules into the gateway.
func (s *stage) nft(rules string) {
	s.t.Helper()
	if err := load(s.gw, s.t.TempDir(), rules); err != nil {
		s.t.Fatal(err)
	}
}

func load(nd *lab.Node, dir, rules string) error {
	file := filepath.Join(dir, "rules.nft")
	if err := os.WriteFile(file, []byte(rules+"\n"), 0o600); err != nil {
		return err
	}
	if _, err := nd.Try(nftProgram + " -c -f " + file); err != nil {
		return fmt.Errorf("check rules: %w", err)
	}
	_, err := nd.Try(nftProgram + " -f " + file)
	return err
}

var (
	udpPacket = packet{src: host, dst: remote, proto: unix.IPPROTO_UDP, payload: segment(7, 9, 8)}
	lanToRem  = class("10.1.0.0/24", "10.2.0.0/24", plain)
)

// many makes a class of so many pairs of networks, from the number first on.
func many(first, n int) guard.Class {
	c := class("172.16.0.0/24", "172.17.0.0/24", plain)
	c.Keys = nil
	for i := first; i < first+n; i++ {
		c.Keys = append(c.Keys, guard.Key{Src: netip.AddrFrom4([4]byte{172, byte(16 + i>>16), byte(i >> 8), 0}),
			Dst: netip.AddrFrom4([4]byte{192, byte(i >> 8), byte(i), 0})})
	}
	return c
}

// TestReplacedUnderTraffic: nothing slips through while one table takes the place of
// another.
func TestReplacedUnderTraffic(t *testing.T) {
	s := newStage(t)
	s.set(leakguard.Own{NoEarly: true}, need(lanToRem))
	var sent atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if err := send(s.h1, udpPacket, 100); err != nil {
				t.Error(err)
				return
			}
			sent.Add(100)
		}
	})
	defer done.Wait()
	defer stop()
	for i := range 10 {
		before := sent.Load()
		lab.Eventually(t, patience, "traffic before a change", func() bool { return sent.Load() > before+200 })
		s.set(leakguard.Own{NoEarly: i%2 == 0}, need(lanToRem, many(1000*i, 3000)))
	}
	before := sent.Load()
	lab.Eventually(t, patience, "traffic behind the changes", func() bool { return sent.Load() > before+200 })
	stop()
	done.Wait()
	// What is sent now arrives behind all that was sent before.
	s.set(leakguard.Own{}, need(many(0, 1)))
	s.passes("without the selector", s.h1, packet{src: host, dst: remote, proto: 99, payload: make([]byte, 8)})
	if n := s.seen.count(udpPacket); n != 0 {
		t.Errorf("%d of %d packets slipped through", n, sent.Load())
	}
	t.Logf("%d packets, %d counted as dropped", sent.Load(), s.drops())
}

// TestCounter: the count goes on over changes, removals, other processes and what others
// do to the table.
func TestCounter(t *testing.T) {
	s := newStage(t)
	if n := s.drops(); n != 0 {
		t.Fatalf("%d drops at the beginning", n)
	}
	want := 0
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"set", func() { s.set(leakguard.Own{}, need(lanToRem)) }},
		{"set again", func() { s.set(leakguard.Own{}, need(lanToRem, many(0, 10))) }},
		{"removed", func() {
			if err := s.f.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			there(t, s.f, false)
			s.set(leakguard.Own{}, need(lanToRem))
		}},
		{"flushed", func() {
			s.drops() // the last time it can be read
			s.gw.Run(nftProgram + " flush ruleset")
			there(t, s.f, false)
			s.set(leakguard.Own{}, need(lanToRem))
		}},
		{"set to zero", func() {
			s.drops()
			s.gw.Run(nftProgram + " reset counters")
		}},
		{"another process", func() {
			s.drops()
			s.set(leakguard.Own{}, need(lanToRem)) // with the count of all before
			s.f = s.filter()
		}},
	} {
		step.do()
		if got := s.drops(); got != want {
			t.Errorf("%s: %d drops, want %d", step.name, got, want)
		}
		s.dropsIt(step.name, s.h1, udpPacket)
		want += 3
	}
}

// mixed is a program with classes of all kinds.
func mixed() guard.Program {
	ports := toPort
	ports.SrcPortMask, ports.DstPortMask = 0xff00, 0xfff0
	all := ports
	all.MarkMask = 0xf0f0
	udp := guard.Key{Proto: unix.IPPROTO_UDP, SrcPort: 0x1200, DstPort: 0x340}
	tcp, sctp := udp, guard.Key{Proto: unix.IPPROTO_SCTP}
	tcp.Proto = unix.IPPROTO_TCP
	lite, dccp := guard.Key{Proto: unix.IPPROTO_UDPLITE}, guard.Key{Proto: unix.IPPROTO_DCCP}
	withMark := func(k guard.Key) guard.Key {
		k.Mark = 0x2040
		return k
	}
	var layers []guard.Layer
	for _, v := range []struct {
		lan, rem, one, any string
		icmp               uint8
	}{{"10.1.0.0/24", "10.8.0.0/13", "10.2.0.9/32", "0.0.0.0/0", unix.IPPROTO_ICMP},
		{"fd01::/64", "fd08::/13", "fd02::9/128", "::/0", unix.IPPROTO_ICMPV6}} {
		classes := func() []guard.Class {
			return []guard.Class{
				class(v.lan, v.rem, plain), class(v.lan, v.one, plain), class(v.any, v.one, plain), class(v.one, v.any, plain),
				class(v.lan, v.rem, protocol, guard.Key{Proto: 47}, guard.Key{Proto: 6}),
				class(v.any, v.any, protocol, guard.Key{Proto: 47}),
				class(v.lan, v.rem, marked, guard.Key{Mark: 0x2a}),
				class(v.lan, v.rem, ports, udp, tcp, sctp, lite, dccp),
				class(v.lan, v.one, all, withMark(udp), withMark(tcp)),
				class(v.lan, v.any, toPort, guard.Key{Proto: 17, DstPort: 53}),
				class(v.any, v.any, toPort, guard.Key{Proto: 17, DstPort: 53}),
				class(v.lan, v.rem, guard.Shape{Ports: guard.TransportPorts, DstPortMask: 0xffff}, guard.Key{DstPort: 53}),
				class(v.lan, v.rem, types, guard.Key{Proto: v.icmp, SrcPort: 3, DstPort: 4}),
				class(v.lan, v.one, guard.Shape{Ports: guard.ICMPTypes, SrcPortMask: 0xf0}, guard.Key{SrcPort: 0x80}),
				class(v.any, v.one, guard.Shape{Ports: guard.ICMPTypes, DstPortMask: 0xff}, guard.Key{DstPort: 3}),
			}
		}
		layers = append(layers, pass(classes()...), need(classes()...), pass(class(v.any, v.any, plain)),
			need(class(v.any, v.any, plain)))
	}
	return program(layers...)
}

// TestReadable: nft(8) prints the table so that it can load it again, as the same.
func TestReadable(t *testing.T) {
	s := newStage(t)
	if err := s.f.Set(t.Context(), mixed(), leakguard.Own{IKEPorts: []uint16{4501},
		Pass: []leakguard.Pair{{Src: prefix("10.1.0.1/32"), Dst: prefix("10.1.0.0/24")}}}); err != nil {
		t.Fatal(err)
	}
	listed := s.gw.Run(nftProgram + " list ruleset")
	fresh := s.gw.Net().Node("fresh")
	if err := load(fresh, t.TempDir(), listed); err != nil {
		t.Fatalf("%v\n%s", err, listed)
	}
	if again := fresh.Run(nftProgram + " list ruleset"); again != listed {
		t.Errorf("loaded again it is\n%s\nand was\n%s", again, listed)
	}
	for line := range strings.Lines(listed) {
		// nft(8) has no names for what an ICMP error quotes: protocol and destination.
		quoted := regexp.MustCompile(`@th,(136,8|192,32|112,8|256,128)\b`).ReplaceAllString(line, "")
		if strings.Contains(quoted, "@nh") || strings.Contains(quoted, "@th") {
			t.Errorf("it has headers without a name: %s", line)
		}
	}
	there(t, s.f, true)
}

// TestTold: what others do to the table is told, and what the Filter does itself is not.
func TestTold(t *testing.T) {
	s := newStage(t)
	told, err := s.f.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := s.filter()
	ctx, cancel := context.WithCancel(t.Context())
	otherTold, err := other.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	await := func(what string, ch <-chan struct{}) {
		t.Helper()
		select {
		case <-ch:
		case <-time.After(patience):
			t.Fatalf("%s is not told", what)
		}
	}
	for range 3 {
		s.set(leakguard.Own{}, need(lanToRem, many(0, 3000)))
		await("to another one what this one sets", otherTold) // so this one would have been told
		s.nft("add table inet somebody\nadd chain inet somebody c\ndelete table inet somebody")
	}
	select {
	case <-told:
		t.Error("what it sets itself, or what happens to another table, is told")
	default:
	}
	for _, harm := range []string{
		"flush ruleset", "delete table inet sasyncd", "flush chain inet sasyncd ipv4",
		"delete element inet sasyncd need0-0 { 10.2.0.0 . 10.1.0.0 }", "add table inet sasyncd { flags dormant; }",
	} {
		for len(told) > 0 { // several may come of one change
			<-told
		}
		began := time.Now()
		s.gw.Run(nftProgram + " " + harm)
		await(harm, told)
		heard := time.Now()
		s.set(leakguard.Own{}, need(lanToRem, many(0, 3000)))
		t.Logf("%s: told in %v, nft and all, and mended in %v", harm, heard.Sub(began), time.Since(heard))
		s.dropsIt("mended behind "+harm, s.h1, udpPacket)
	}
	cancel()
	lab.Eventually(t, patience, "the channel to close", func() bool {
		select {
		case _, open := <-otherTold:
			return !open
		default:
			return false
		}
	})
	if err := s.f.Set(t.Context(), program(need(guard.Class{Keys: []guard.Key{{}}})), leakguard.Own{}); err == nil {
		t.Error("a class without addresses is set")
	}
	there(t, s.f, true)
}

// TestThere: others' changes show.
func TestThere(t *testing.T) {
	s := newStage(t)
	there(t, s.f, false)
	if err := s.f.Remove(t.Context()); err != nil {
		t.Errorf("remove what is not there: %v", err)
	}
	s.set(leakguard.Own{})
	for _, harm := range []string{"flush chain inet sasyncd wall", "add rule inet sasyncd ipv4 accept",
		"delete table inet sasyncd", "add table inet sasyncd { flags dormant; }",
		"add set inet sasyncd x { type ipv4_addr; }"} {
		s.nft(harm)
		there(t, s.f, false)
		s.set(leakguard.Own{})
	}
	s.nft("add table inet somebody")
	there(t, s.f, true)
	there(t, s.filter(), false) // another process has not set it
	if err := s.f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := s.gw.Run(nftProgram + " list ruleset"); strings.Contains(left, "sasyncd") {
		t.Errorf("left behind:\n%s", left)
	}
}

// TestManySelectors: ten thousand of mixed shapes load, and each shape works.
func TestManySelectors(t *testing.T) {
	s := newStage(t)
	udp := class("172.16.0.0/32", "172.17.0.0/32", toPort)
	six, types6 := class("fd00::/64", "fd00::/64", plain), class("fd00::/64", "fd00::/64", types)
	withMark := class("172.16.0.0/24", "172.17.0.0/24", marked)
	for _, c := range []*guard.Class{&udp, &six, &types6, &withMark} {
		c.Keys = nil
	}
	six6 := func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfd, 1: 4, 6: byte(i >> 8), 7: byte(i)}) }
	for i := range 2000 {
		udp.Keys = append(udp.Keys, guard.Key{Src: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}),
			Dst:   netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}),
			Proto: []uint8{unix.IPPROTO_UDP, unix.IPPROTO_TCP}[i%2], DstPort: uint16(i)})
		six.Keys = append(six.Keys, guard.Key{Src: six6(i), Dst: six6(i + 1)})
		types6.Keys = append(types6.Keys, guard.Key{Src: six6(i), Dst: six6(i + 1), Proto: unix.IPPROTO_ICMPV6,
			SrcPort: 128, DstPort: uint16(i % 256)})
		withMark.Keys = append(withMark.Keys, guard.Key{Src: netip.AddrFrom4([4]byte{172, 18, byte(i), 0}),
			Dst: netip.AddrFrom4([4]byte{192, byte(i >> 8), byte(i), 0}), Mark: uint32(i % 256)})
	}
	udp.Keys = append(udp.Keys, guard.Key{Src: host, Dst: remote, Proto: unix.IPPROTO_UDP, DstPort: 9})
	six.Keys = append(six.Keys, guard.Key{Src: addr("fd01::"), Dst: addr("fd02::")})
	withMark.Keys = append(withMark.Keys, guard.Key{Src: addr("10.1.0.0"), Dst: addr("10.2.0.0"), Mark: 7})
	for range 2 { // the second time in place of the first
		began := time.Now()
		s.set(leakguard.Own{NoEarly: true}, need(udp, six, types6, withMark, many(0, 2000)))
		t.Logf("10,003 selectors in %v", time.Since(began))
	}
	s.dropsIt("ports", s.h1, udpPacket)
	s.dropsIt("IPv6", s.h1, packet{src: host6, dst: remote6, proto: 99, payload: make([]byte, 8)})
	p := packet{src: inner, dst: remote, proto: 99, payload: make([]byte, 8), mark: 7}
	s.dropsIt("mark", s.gw, p)
	p.mark = 8
	s.passes("another mark", s.gw, p)
	s.passes("another port", s.h1, packet{src: host, dst: remote, proto: unix.IPPROTO_UDP, payload: segment(9, 7, 8)})
}
