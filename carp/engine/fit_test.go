package engine

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/auth"
	"sasyncd/carp/link"
)

// many gives the instance a number of addresses.
func many(count int, six, signed bool, proto carp.Proto) func(*Config) {
	return func(c *Config) {
		r := &c.Routers[0]
		r.Machine.Proto, r.VIPs = proto, nil
		if proto == carp.VRRP2 {
			r.Machine.Interval = time.Second
		}
		for n := range count {
			a := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
			if six {
				a = netip.MustParseAddr(fmt.Sprintf("fe80::%x", n+1))
			}
			r.VIPs = append(r.VIPs, a)
		}
		if signed {
			r.Trailer = auth.Policy{Mode: auth.Enforce,
				Keys: []auth.Key{{ID: 1, Secret: []byte(strings.Repeat("k", 32))}}}
		}
	}
}

// An advertisement fits the link whatever the number of addresses, and has as many of
// them as there is room for.
func TestAdvertisementFits(t *testing.T) {
	for _, six := range []bool{false, true} {
		for _, signed := range []bool{false, true} {
			for _, proto := range []carp.Proto{carp.VRRP3, carp.VRRP2} {
				if proto == carp.VRRP2 && (six || signed) {
					continue
				}
				for _, mtu := range []int{0, 576, 1280, 1400, 1499, 1500, 1501, 9000} {
					e, _, links, w := watched(t, many(255, six, signed, proto))
					r := e.routers[0]
					ip, each := 20, 4
					if six {
						ip, each = 40, 16
						links.addrs[1].IP = netip.MustParseAddr("fe80::2:2")
					}
					links.state.MTU = mtu
					w.lookNow()
					b, err := e.message(r, carp.Action{Priority: 100}, r.src, r.Router.group())
					if err != nil {
						t.Fatal(err)
					}
					if mtu == 0 {
						mtu = 1500
					}
					n := int(b[3])
					what := fmt.Sprintf("IPv6 %v, %v, signed %v, MTU %d: %d addresses in %d bytes", six, proto, signed,
						mtu, n, ip+len(b))
					if ip+len(b) > mtu {
						t.Errorf("%s: too long", what)
					}
					if n < 255 && ip+len(b)+each <= mtu {
						t.Errorf("%s: room for more", what)
					}
					list := e.cfg.Misfits(func(string) int { return links.state.MTU })
					if told := len(list) == 1 && list[0].Fit == n && strings.Contains(list[0].String(),
						fmt.Sprint(n)); told != (n < 255) {
						t.Errorf("%s: said %v", what, list)
					}
				}
			}
		}
	}
}

// The figure for an Ethernet, which people ask for: 90 addresses of IPv6.
func TestFigureOfEthernet(t *testing.T) {
	for _, tc := range []struct {
		have int
		six  bool
		fit  int
	}{{89, true, 89}, {90, true, 90}, {91, true, 90}, {100, true, 90}, {255, false, 255}} {
		cfg := config()
		many(tc.have, tc.six, false, carp.VRRP3)(&cfg)
		if got := cfg.Routers[0].fit(1500); got != tc.fit {
			t.Errorf("%d addresses, IPv6 %v: %d fit, want %d", tc.have, tc.six, got, tc.fit)
		}
	}
}

// An MTU that changes, and settings that do, are followed, and said once each.
func TestMTUChange(t *testing.T) {
	e, _, _, w := watched(t, many(100, true, false, carp.VRRP3))
	e.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	e.routers[0].fitTold = 0 // as before the first look
	_ = e.queues.out.take()
	for n := range 2 {
		w.lookNow()
		if said := len(e.queues.out.take()); said != 1-n {
			t.Errorf("look %d: said %d times that an Ethernet is too small", n, said)
		}
	}
	var links *fakeLinks
	e, _, links, w = watched(t, many(100, false, false, carp.VRRP3))
	r := e.routers[0]
	said := func() (n int) {
		for _, o := range e.queues.out.take() {
			if strings.Contains(o.text, "not advertised") {
				n++
			}
		}
		return n
	}
	_ = said()
	e.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	for _, step := range []struct{ mtu, fit, said int }{{1500, 100, 0}, {400, 93, 1}, {400, 93, 0}, {300, 68, 1},
		{1500, 100, 0}} {
		links.state.MTU = step.mtu
		w.lookNow()
		if n := said(); r.advertised != step.fit || n != step.said {
			t.Errorf("MTU %d: %d advertised, said %d times; want %d, %d", step.mtu, r.advertised, n, step.fit,
				step.said)
		}
	}
	cfg := e.cfg
	cfg.Routers = append([]Router(nil), cfg.Routers...)
	cfg.Routers[0].VIPs = cfg.Routers[0].VIPs[:7]
	next, err := New(cfg, e.deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.change(link.BootTime(), next); err != nil {
		t.Fatal(err)
	}
	if r.advertised != 7 {
		t.Errorf("%d advertised of 7 addresses", r.advertised)
	}
}
