package daemon

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func refused(r *Refusals, reason string) (n uint64) {
	r.Each(func(what string, v uint64) {
		if what == reason {
			n = v
		}
	})
	return n
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for began := time.Now(); !cond(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// TestIdleClientsKeepNobodyOut: whoever takes all places of the control socket,
// silent, with half a line, or after a request, does not keep others away.
func TestIdleClientsKeepNobodyOut(t *testing.T) {
	path, s := serve(t, map[string]Verb{"ask": {Handle: func(_ context.Context,
		call *Call) error {
		return call.Send("fine")
	}}})
	for i := range 5 * maxClients {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, []string{"", `{"verb":"a`, "{\"verb\":\"ask\"}\n"}[i%3])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var answer string
	if err := dial(t, path).Get(ctx, "ask", nil, &answer); err != nil || answer != "fine" {
		t.Errorf("an operator got %q, %v", answer, err)
	}
	if n := refused(&s.Refused, "busy"); n == 0 {
		t.Error("nothing was counted")
	}
}

// TestControlRefusalsAreCounted: each kind shows, and a line without end costs no
// more memory than a request may have.
func TestControlRefusalsAreCounted(t *testing.T) {
	path, s := serve(t, map[string]Verb{})
	long, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	b := make([]byte, 64<<10)
	for i := range b {
		b[i] = 'x'
	}
	sent := 0
	for ; sent < 100<<20; sent += len(b) {
		if _, err := long.Write(b); err != nil {
			break
		}
	}
	if sent > 10<<20 {
		t.Errorf("%d bytes of a line were read", sent)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "nonsense\n{\"verb\":\"unknown\"}\n\n")
	await(t, "the refusals to be counted", func() bool { return refused(&s.Refused, "malformed") == 4 })
}

// TestSlowSendersDoNotCostAScrape: connections that say nothing, or half a
// request, neither keep a scrape away nor grow without bound.
func TestSlowSendersDoNotCostAScrape(t *testing.T) {
	w := NewWeb(netip.MustParseAddrPort("127.0.0.1:0"), NewLogger(io.Discard, false, 0), prometheus.NewRegistry(),
		func() error { return nil }, func() error { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- w.Run(ctx) }()
	addr := (<-w.bound).String()
	for i := range 5 * maxWebClients {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			_, _ = fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
		}
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr + "/healthz")
	if err != nil {
		t.Fatalf("a scrape: %v", err)
	}
	resp.Body.Close()
	await(t, "all connections to be seen", func() bool { return refused(&w.Refused, "busy") >= 4*maxWebClients })
	// A whole request of another method counts, too.
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = fmt.Fprintf(c, "POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "HTTP/1.1 405 Method Not Allowed\r\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if n := refused(&w.Refused, "denied"); n != 1 {
		t.Errorf("%d denied", n)
	}
	cancel()
	if err := <-result; err != nil {
		t.Error(err)
	}
}
