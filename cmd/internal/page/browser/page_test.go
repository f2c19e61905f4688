// Package browser looks at the status page with a real browser. It has a target of
// its own, `make drill-page`, because it needs one installed.
package browser

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"sasyncd/cmd/internal/page"
)

// gateway serves the page of a pair in which gw1 dies when the switch is set.
func gateway(t *testing.T) (url string, failed *atomic.Bool) {
	t.Helper()
	failed = new(atomic.Bool)
	began := time.Now().Add(-2 * time.Hour)
	history := page.NewHistory([2]string{"lag", "s"}, [2]string{"counter updates", "/s"}, [2]string{"changes", "/s"})
	for i := range 150 {
		x := float64(i)
		history.Add(0.2+0.1*math.Sin(x/9), 400+30*math.Sin(x/5), max(0, 20*math.Sin(x/20)))
	}
	history.Add(0.25, 420, 3)
	source := func(context.Context) (page.Status, error) {
		now := time.Now()
		s := page.Status{Program: "sasyncd", Version: "sasyncd 1.0", Host: "gw2", Time: now, Started: began, Fit: true,
			Summary: "a failover would work",
			Gateways: []page.Gateway{{Name: "gw2", Self: true, Up: true, Roles: map[string]string{"outside": "BACKUP"}},
				{Name: "gw1", Up: true, Roles: map[string]string{"outside": "MASTER"}}},
			Groups: []page.Group{{Name: "outside", Role: "BACKUP", Since: began, Reason: "a better master is heard",
				Term: 7, InSync: true, Why: "follows the master",
				VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
				Details: []page.Detail{{Name: "SAs", Value: "2000"}, {Name: "policies", Value: "3000"},
					{Name: "margin", Value: "67108864 packets"}}}},
			Peers: []page.Peer{{Name: "10.9.0.1",
				State: "connected", Details: []page.Detail{{Name: "received", Value: "812 KiB"}}}},
			Plots: history.Plots(),
			Events: []page.Event{{Time: now, Level: "warn",
				Text: `strange <b>name</b> <script>document.title="owned"</script>`},
				{Time: began, Level: "info", Text: "ready"}},
		}
		if failed.Load() {
			s.Fit, s.Summary = false, "a failover would not work"
			s.Problems = []page.Problem{{What: "no peer is connected", Remedy: "see the log of both nodes"}}
			s.Gateways[0].Roles["outside"], s.Gateways[1].Up, s.Gateways[1].Roles = "MASTER", false, nil
			s.Groups[0].Role, s.Groups[0].Reason, s.Groups[0].Since = "MASTER", "no advertisements",
				now.Add(-3*time.Second)
			s.Peers[0].State = "no session: timeout"
			s.Failovers = []page.Failover{{Time: now, Group: "outside", From: "BACKUP", To: "MASTER",
				Reason: "no advertisements", Gap: 0.812}}
		}
		return s, nil
	}
	mux := http.NewServeMux()
	mux.Handle("/{$}", page.HTML())
	mux.Handle("/status.json", page.JSON(source))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String() + "/", failed
}

// TestPageInBrowser looks at the page on a desk and on a phone, in light and
// dark, before and after a failover.
func TestPageInBrowser(t *testing.T) {
	b := browse(t)
	grounds := map[string]bool{}
	for _, look := range []struct {
		name          string
		width, height int
		scheme        string
	}{{"desk", 1280, 1000, "light"}, {"desk-dark", 1280, 1000, "dark"}, {"phone", 375, 812, "light"}} {
		url, failed := gateway(t)
		b.open(url, look.width, look.height, look.scheme)
		b.wants("h1", "gw2")
		b.wants("#verdict", "a failover would work")
		b.wants("#about", "up 2 h 0 min")
		b.wants(".gw.backup h3", "gw2 (this one)")
		b.wants(".gw.master h3", "gw1")
		b.wants(".gw.master .vip", "192.0.2.1")
		b.wants(".link", "lag 0.25 s")
		b.wants(".plot", "counter updates420 /s")
		b.wants("#groups", "SAs 2000, policies 3000, margin 67108864 packets")
		b.wants("#peers", "received 812 KiB")
		b.wants("#failovers", "none since the start")
		b.wants("#events .warn", "strange <b>name</b> <script>")
		var title string
		if b.eval("document.title", &title); title != "gw2 sasyncd" {
			t.Errorf("%s: the title is %q", look.name, title)
		}
		var curves []int
		b.eval(`[...document.querySelectorAll(".plot .curve")].map(e => e.getAttribute("d").split("L").length)`,
			&curves)
		if fmt.Sprint(curves) != "[150 150 150]" {
			t.Errorf("%s: curves have %v points", look.name, curves)
		}
		var over int
		if b.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth", &over); over > 0 {
			t.Errorf("%s: the page is %d pixels wider than the window", look.name, over)
		}
		if b.eval("Math.max(...[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth))",
			&over); over > 0 {
			t.Errorf("%s: a table is %d pixels wider than its box", look.name, over)
		}
		var ground string
		b.eval("getComputedStyle(document.body).backgroundColor", &ground)
		grounds[look.scheme+ground] = true
		b.shoot(look.name)

		failed.Store(true) // the page follows by itself
		b.wants("#verdict.bad", "no peer is connected")
		b.wants(".gw.master h3", "gw2 (this one)")
		b.wants(".gw.down", "no contact")
		b.wants(".link.cut", "no contact")
		b.wants("#failovers", "BACKUP to MASTER0.81 s")
		b.shoot(look.name + "-failed")
	}
	if len(grounds) != 2 {
		t.Errorf("light and dark look alike: %v", grounds)
	}
}
