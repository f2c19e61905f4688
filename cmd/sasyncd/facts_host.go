package main

import (
	"net/netip"
	"sync"
	"time"

	"sasyncd/cmd/internal/judge"
)

const (
	settingsEvery = 15 * time.Second // how often the settings of interfaces are read
	clockEvery    = 5 * time.Second  // how often a report tells another time, which makes it another report
)

// hostFacts keeps what is not read each second. Safe for concurrent use.
type hostFacts struct {
	mu      sync.Mutex
	read    time.Time
	devices map[string]judge.Device
	found   []judge.Setting
	told    int64
}

// settings returns the settings that may harm the interfaces of all groups.
func (h *hostFacts) settings(f *judge.Facts, read func(string) string, now time.Time) []judge.Setting {
	devices := make(map[string]judge.Device)
	var order []string
	for i := range f.Groups {
		if f.Groups[i].Carp == nil {
			continue
		}
		for _, in := range f.Groups[i].Carp.Instances {
			d, ok := devices[in.Interface]
			if !ok {
				order = append(order, in.Interface)
			}
			d.Name, d.Virtual = in.Interface, d.Virtual || in.Virtual
			for _, r := range in.Routers {
				d.IP4, d.IP6 = d.IP4 || r.Family == "ipv4", d.IP6 || r.Family == "ipv6"
			}
			devices[in.Interface] = d
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	same := len(devices) == len(h.devices)
	for name, d := range devices {
		same = same && h.devices[name] == d
	}
	if !same || now.Sub(h.read) >= settingsEvery {
		h.devices, h.read, h.found = devices, now, nil
		for _, name := range order {
			h.found = append(h.found, judge.Harmful(devices[name], read)...)
		}
	}
	return h.found
}

// clock returns the time to report.
func (h *hostFacts) clock(now int64) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := now - h.told; d < 0 || d >= int64(clockEvery/time.Second) {
		h.told = now
	}
	return h.told
}

// acquaintances are the peers of the configuration.
func (f *facts) acquaintances(own map[netip.Addr]bool) (out []judge.Known) {
	for _, st := range others(f.peers(), own) {
		k := judge.Known{Name: st.Name, Connected: st.Session != nil}
		if !st.Node.IsZero() {
			k.Node = st.Node.String()
		}
		out = append(out, k)
	}
	return out
}
