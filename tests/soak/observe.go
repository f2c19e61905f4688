package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
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

// metrics is an exposition: name with labels, and value.
type metrics map[string]float64

// scrape reads a gateway's metrics, as Prometheus would.
func scrape(ctx context.Context, m *scenario.Member, at string) (metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			err = m.Do(func() (err error) {
				c, err = (&net.Dialer{}).DialContext(ctx, network, addr)
				return err
			})
			return c, err
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	return parse(resp.Body)
}

func parse(r io.Reader) (metrics, error) {
	list := metrics{}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line := sc.Text()
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", line, err)
		}
		list[line[:at]] = v
	}
	return list, sc.Err()
}

// largest is the largest value of a metric over its labels that contain all of
// has, 0 for none.
func (m metrics) largest(name string, has ...string) (v float64) {
next:
	for k, x := range m {
		if base, labels, _ := strings.Cut(k, "{"); base == name {
			for _, h := range has {
				if !strings.Contains(labels, h) {
					continue next
				}
			}
			v = max(v, x)
		}
	}
	return v
}

func (m metrics) process() soakdata.Process {
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
	if x, err := scrape(ctx, m, sasyncdMetrics); err == nil {
		s.Sasyncd = x.process()
		for _, role := range []string{"MASTER", "BACKUP"} {
			if x.largest("sasyncd_role", `role="`+role+`"`) == 1 {
				s.Role = role
			}
		}
		s.Lag = x.largest("sasyncd_sync_lag_seconds")
		s.InSync = x.largest("sasyncd_in_sync") == 1
		s.SAs = x.largest("sasyncd_sadb_entries", `kind="sa"`)
		s.Repairs = x["sasyncd_repairs_total"]
	}
	if x, err := scrape(ctx, m, carpdMetrics); err == nil {
		s.Carpd = x.process()
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
