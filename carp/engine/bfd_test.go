package engine

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/carp/bfd"
	"sasyncd/carp/link"
)

// The status of a group has its sessions, and their age since the state changed.
func TestBFDInStatus(t *testing.T) {
	e, _ := testEngine(t, nil)
	poll, err := link.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	e.setPoller(poll)
	defer poll.Close()
	g := e.groups[0]
	router, local := netip.MustParseAddr("192.0.2.254"), netip.MustParseAddr("fe80::fe")
	tell := func(now time.Duration, group string, a netip.Addr, device string, s bfd.Status) {
		e.BFD(group, a, device, s)
		e.runCalls(now)
	}
	tell(time.Second, g.name, router, "", bfd.Status{State: bfd.Down, Transmit: time.Second})
	tell(time.Second, g.name, local, "eth0", bfd.Status{State: bfd.Down, Transmit: time.Second})
	tell(time.Second, "nosuch", router, "", bfd.Status{State: bfd.Up})
	up := bfd.Status{State: bfd.Up, Heard: true, NeighborState: bfd.Init, Transmit: 50 * time.Millisecond,
		Detection: 150 * time.Millisecond}
	tell(2*time.Second, g.name, router, "", up)
	up.NeighborState = bfd.Up
	tell(3*time.Second, g.name, router, "", up)
	tell(4*time.Second, g.name, local, "eth0", bfd.Status{State: bfd.Down, Diag: bfd.NeighborDown, Heard: true,
		NeighborState: bfd.Down, NeighborDiag: bfd.DetectionExpired, Transmit: time.Second, Detection: 3 * time.Second})
	want := []api.BFDSession{
		{Neighbor: router, State: "Up", AgeMS: 3000, NeighborState: "Up", TransmitMS: 50, DetectionMS: 150},
		{Neighbor: local, Interface: "eth0", State: "Down", AgeMS: 4000, Diagnostic: "Neighbor Signaled Session Down",
			NeighborState: "Down", NeighborDiagnostic: "Control Detection Time Expired", TransmitMS: 1000,
			DetectionMS: 3000},
	}
	if got := e.state(g, 5*time.Second).BFD; !slices.Equal(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}
