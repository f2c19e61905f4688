package scenario

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Metrics is an exposition: name with labels, and value.
type Metrics map[string]float64

// Scrape reads the metrics that the gateway serves at an address, as Prometheus
// would.
func (m *Member) Scrape(ctx context.Context, at string) (Metrics, error) {
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
	return parseMetrics(resp.Body)
}

func parseMetrics(r io.Reader) (Metrics, error) {
	list := Metrics{}
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

// Largest is the largest value of a metric over its labels that contain all of
// has, 0 for none.
func (m Metrics) Largest(name string, has ...string) (v float64) {
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
