package main

import (
	"context"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
	"sasyncd/tests/soak/soakdata"
)

// Addresses of the metrics, which each gateway serves on its own loopback.
const (
	sasyncdMetrics = "127.0.0.1:9750"
	carpdMetrics   = "127.0.0.1:9751"
)

func process(m scenario.Metrics) soakdata.Process {
	return soakdata.Process{
		RSS: m["process_resident_memory_bytes"], FDs: m["process_open_fds"],
		Goroutines: m["go_goroutines"], CPU: m["process_cpu_seconds_total"],
	}
}

// observer scrapes both gateways every few seconds.
type observer struct {
	pair  *scenario.Pair
	began time.Time
	done  func() int // rekeys

	mu      sync.Mutex
	samples []soakdata.Sample
}

const scrapeEvery = 3 * time.Second

func (o *observer) run(ctx context.Context) {
	tick := time.NewTicker(scrapeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, m := range o.pair.Members {
				s := o.sample(ctx, m)
				o.mu.Lock()
				o.samples = append(o.samples, s)
				o.mu.Unlock()
			}
		}
	}
}

// sample asks one gateway. A daemon that does not answer is part of the picture.
func (o *observer) sample(ctx context.Context, m *scenario.Member) soakdata.Sample {
	s := soakdata.Sample{T: time.Since(o.began).Seconds(), Node: m.Name, Rekeys: o.done()}
	if x, err := m.Scrape(ctx, sasyncdMetrics); err == nil {
		s.Sasyncd = process(x)
		for _, role := range []string{"MASTER", "BACKUP"} {
			if x.Largest("sasyncd_role", `role="`+role+`"`) == 1 {
				s.Role = role
			}
		}
		s.Lag = x.Largest("sasyncd_sync_lag_seconds")
		s.InSync = x.Largest("sasyncd_in_sync") == 1
		s.SAs = x.Largest("sasyncd_sadb_entries", `kind="sa"`)
		s.Repairs = x["sasyncd_repairs_total"]
	}
	if x, err := m.Scrape(ctx, carpdMetrics); err == nil {
		s.Carpd = process(x)
	}
	return s
}

// worst is the largest lag sampled since a moment.
func (o *observer) worst(since float64) (lag float64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.samples {
		if s.T >= since {
			lag = max(lag, s.Lag)
		}
	}
	return lag
}

func (o *observer) all() []soakdata.Sample {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.samples
}

// holdsVIP reports whether a gateway has the outside VIP and a cable there.
func holdsVIP(m *scenario.Member) bool {
	l, err := m.Netlink().LinkByName(m.WAN.Inner)
	if err != nil || l.Attrs().OperState == netlink.OperDown || l.Attrs().OperState == netlink.OperLowerLayerDown {
		return false
	}
	list, err := m.Netlink().AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return false
	}
	for _, a := range list {
		if a.IP.Equal(lab.VIPOut.AsSlice()) {
			return true
		}
	}
	return false
}
