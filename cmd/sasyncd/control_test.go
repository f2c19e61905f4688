package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/sync/engine"
	"sasyncd/sync/peer"
	"sasyncd/sync/wire"
)

// fakePeers are what a manager of peers knows.
type fakePeers []peer.Status

// Status does what peer.Manager's does.
func (f fakePeers) Status() []peer.Status { return f }

func twoPeers() *control {
	at := netip.MustParseAddrPort
	return &control{
		foundBy: func(string) string { return "" },
		own:     func() map[netip.Addr]bool { return map[netip.Addr]bool{netip.MustParseAddr("10.9.0.1"): true} },
		peers: fakePeers{
			{Name: "10.9.0.1", Addrs: []netip.AddrPort{at("10.9.0.1:500")}}, // this node: one file for all
			{Name: "10.9.0.2", Addrs: []netip.AddrPort{at("10.9.0.2:500"), at("[fe80::2%eth0]:500")},
				Node: wire.NodeID{0xab, 0xcd, 0xef, 0x01}},
			{Name: "fw3.example", Addrs: []netip.AddrPort{at("10.9.0.3:500")}, Node: wire.NodeID{0xab, 0xcd, 0xef,
				0x02}},
			{Name: "fw4.example"}, // its name was never resolved
		}}
}

func TestPeerNamed(t *testing.T) {
	k := twoPeers()
	for operand, want := range map[string]string{
		"": "", "10.9.0.2": "10.9.0.2", "fe80::2": "10.9.0.2", "::ffff:10.9.0.2": "10.9.0.2", "10.9.0.3": "fw3.example",
		"fw3.example": "fw3.example",
		"fw4.example": "fw4.example", "abcdef01": "10.9.0.2", "ABCDEF0200": "fw3.example",
	} {
		if got, err := k.peerNamed(operand); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", operand, got, err, want)
		}
	}
	for operand, want := range map[string]string{
		"10.9.0.9": "want one of 10.9.0.1, 10.9.0.2, fw3.example", "abcdef": "no peer", "fw": "no peer",
		"00000000": "no peer",
	} {
		got, err := k.peerNamed(operand)
		var ce *daemon.CallError
		if !errors.As(err, &ce) || ce.Code != daemon.CodeBad || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %q, %v", operand, got, err)
		}
	}
}

func TestKnownLeavesThisNodeOut(t *testing.T) {
	list := twoPeers().known()
	if len(list) != 3 || list[0].Name != "10.9.0.2" || list[0].Connected || !strings.HasPrefix(list[0].Node,
		"abcdef01") || list[2].Node != "" {
		t.Errorf("%+v", list)
	}
}

func TestRefusalsHaveARemedy(t *testing.T) {
	err := refusal(&engine.Refusal{Peer: "10.9.0.2", Reason: "is not in sync", Remedy: "wait"})
	if err.Error() != "10.9.0.2 is not in sync\n  remedy: wait" {
		t.Error(err)
	}
	if other := errors.New("other"); !errors.Is(refusal(other), other) {
		t.Error("another error is changed")
	}
}
