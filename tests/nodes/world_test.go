package nodes

import (
	"net/netip"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
)

// World is the service of the machine that is everything but the gateways: the
// standard lab's h1, rgw and h2, whose LAN and WAN are joined with the switch.
// Traffic begins and ends here, so one clock measures it.
type World struct {
	g     *guest
	lab   *lab.Standard
	meter *meter.Meter
}

// Setup builds the lab without its gateways.
func (w *World) Setup(_ struct{}, _ *struct{}) error {
	return w.g.try(func() {
		w.lab = lab.NewStandard(w.g, 0)
		w.lab.LAN.Uplink("vec0")
		w.lab.WAN.Uplink("vec1")
	})
}

// Remote runs lines of "ip -batch" on rgw.
func (w *World) Remote(lines []string, _ *struct{}) error {
	return w.g.try(func() { w.lab.RGW.IP(lines...) })
}

// Send starts traffic: four flows, IPv4 and IPv6 both ways, of that many packets
// a second.
func (w *World) Send(rate int, _ *struct{}) error {
	return w.g.try(func() {
		flow := func(src, dst netip.Addr, port uint16) []meter.Config {
			return meter.Both(meter.Config{From: w.lab.H1, To: w.lab.H2, Src: src, Dst: dst, Port: port, Rate: rate})
		}
		w.meter = meter.Start(w.g, append(flow(lab.H1Addr, lab.H2Addr, 7000), flow(lab.H1Addr6, lab.H2Addr6,
			7002)...)...)
	})
}

// Stop ends the traffic and answers for all of it.
func (w *World) Stop(_ struct{}, r *meter.Report) error {
	return w.g.try(func() {
		w.meter.Stop()
		*r = w.meter.Total()
	})
}

// Now is the world's clock, for [World.Since].
func (w *World) Now(_ struct{}, now *time.Time) error {
	*now = time.Now().Round(0)
	return nil
}

// Since reports on the traffic since then, all flows together.
func (w *World) Since(then time.Time, r *meter.Report) error {
	*r = w.meter.Between(then, time.Now())
	return nil
}

// Received is the number of packets that arrived on the flow with the fewest.
func (w *World) Received(_ struct{}, n *int) error {
	*n = w.meter.Received()
	return nil
}

// Refused is the number of packets that rgw threw away for their sequence number.
func (w *World) Refused(_ struct{}, n *int) error {
	return w.g.try(func() { *n = lab.Refused(nil, w.lab.RGW.XfrmStat()) })
}

// Failures answers with what went wrong between calls.
func (w *World) Failures(_ struct{}, list *[]string) error {
	*list = w.g.failures()
	return nil
}
