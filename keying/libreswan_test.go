package keying

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// As whack of libreswan 4.10 prints it; the ends in angle brackets and with
// next hops are those of other configurations.
const plutoText = `000 using kernel interface: xfrm
000 interface wan0 UDP 192.0.2.1:500
000 Connection list:
000 "net": 10.1.0.0/24===192.0.2.1[@gw]...192.0.2.100[@remote]===10.2.0.0/24; erouted; eroute owner: #4
000 "net":     oriented; my_ip=unset; their_ip=unset; my_updown=ipsec _updown;
000 "plain": 192.0.2.1...198.51.100.7; unrouted; eroute owner: #0
000 "six": fd00:1::/64===2001:db8::1[@gw]---2001:db8::fe...2001:db8::fd---2001:db8::100[@remote]===fd00:2::/64; unrouted; eroute owner: #0
000 "rw": 10.1.0.0/24===192.0.2.1<192.0.2.1>[@gw]...%any[@remote]===10.9.0.0/24; unrouted; eroute owner: #0
000 "node": 192.0.2.11<192.0.2.11>...198.51.100.8<198.51.100.8>; unrouted; eroute owner: #0
000 State list:
000 #3: "net":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 27857s; newest ISAKMP; idle;
000 #4: "net":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 27857s; newest IPSEC; eroute owner; isakmp#3; idle;
`

func TestParsePluto(t *testing.T) {
	s := parsePluto(plutoText)
	want := []plutoConn{
		{"net", "192.0.2.1", "192.0.2.100"}, {"plain", "192.0.2.1", "198.51.100.7"},
		{"six", "2001:db8::1", "2001:db8::100"},
		{"rw", "192.0.2.1", "%any"}, {"node", "192.0.2.11", "198.51.100.8"},
	}
	if d := cmp.Diff(want, s.conns, cmp.AllowUnexported(plutoConn{})); d != "" {
		t.Errorf("connections (-want +got)\n%s", d)
	}
	if d := cmp.Diff(map[string]bool{"net": true}, s.busy); d != "" {
		t.Errorf("states (-want +got)\n%s", d)
	}
	var names []string
	for _, w := range s.wanted(Plan{VIPs: vips}) {
		names = append(names, w.conn)
	}
	if got := strings.Join(names, " "); got != "net plain six" {
		t.Errorf("wanted %s", got)
	}
	up := parseTraffic(`006 #4: "net", type=ESP, add_time=1700000000, inBytes=0, outBytes=0, maxBytes=2^63B, id='@remote'` + "\n")
	if !up[tunnelID{"net", ""}] || len(up) != 1 {
		t.Errorf("up: %v", up)
	}
}

// fakePluto is what whack does, without pluto.
type fakePluto struct {
	*fakePrivileged
	runs  bool
	conns []string
	up    map[string]bool
}

func startPluto(conns ...string) *fakePluto {
	f := &fakePluto{fakePrivileged: &fakePrivileged{absent: map[Daemon]error{}}, runs: true, conns: conns,
		up: make(map[string]bool)}
	f.said = func(_ Daemon, v Verb) (string, error) {
		var b strings.Builder
		switch v.Do {
		case "status":
			for _, c := range f.conns {
				fmt.Fprintf(&b, "000 %q: 192.0.2.1...198.51.100.7; unrouted; eroute owner: #0\n", c)
			}
			for c := range f.up {
				fmt.Fprintf(&b, "000 #1: %q:500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA)\n", c)
			}
		case "trafficstatus":
			for c := range f.up {
				fmt.Fprintf(&b, "006 #1: %q, type=ESP, add_time=1\n", c)
			}
		case "initiate":
			f.up[v.Conn] = true
		case "shutdown":
			f.up = make(map[string]bool)
			f.absent[Libreswan] = ErrNotRunning
		}
		return b.String(), nil
	}
	return f
}

func TestLibreswan(t *testing.T) {
	f := startPluto("a", "b")
	d := NewLibreswan(f)
	if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil || !slices.Equal(f.deeds(),
		[]string{"--status"}) {
		t.Errorf("a pluto without states was disturbed, or: %v", err)
	}
	f.up["a"] = true
	var last Outcome
	if err := d.Active(t.Context(), Plan{VIPs: vips}, func(o Outcome) { last = o }); err != nil ||
		last != (Outcome{Wanted: 2, Up: 2}) {
		t.Errorf("active: %+v, %v", last, err)
	}
	deeds := f.deeds()
	if deeds[0] != "--listen" || !slices.Contains(deeds, "--initiate --asynchronous --name b") || slices.Contains(deeds,
		"--initiate --asynchronous --name a") {
		t.Errorf("did %q", deeds)
	}
	if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil || !slices.Equal(f.deeds(),
		[]string{"--status", "--shutdown --leave-state", "start"}) {
		t.Errorf("passive did not shut down with its state left, or: %v", err)
	}
	f.absent[Libreswan] = nil
	f.up["a"] = true
	f.fail = map[string]error{"--shutdown --leave-state": context.DeadlineExceeded}
	if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil || !slices.Contains(f.deeds(), "kill") {
		t.Errorf("a pluto that hangs was not killed, or: %v", err)
	}
	f.deeds()
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil || !slices.Equal(f.deeds(), []string{"kill"}) {
		t.Errorf("during a hand-over it was not just silenced, or: %v", err)
	}
}

// A pluto that was started just now does not answer yet, and has not loaded its
// connections when it does.
func TestLibreswanStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startPluto()
		began, said := time.Now(), f.said
		f.said = func(d Daemon, v Verb) (string, error) {
			switch since := time.Since(began); {
			case since < 3*time.Second:
				return "", context.DeadlineExceeded
			case since >= 4*time.Second:
				f.conns = []string{"a", "b"}
			case since >= 3500*time.Millisecond:
				f.conns = []string{"a"}
			}
			return said(d, v)
		}
		d := NewLibreswan(f)
		if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil {
			t.Error(err)
		}
		for _, deed := range f.deeds() {
			if deed != "--status" {
				t.Errorf("a pluto that starts was disturbed: %s", deed)
			}
		}
		began = time.Now()
		var last Outcome
		if err := d.Active(t.Context(), Plan{VIPs: vips}, func(o Outcome) { last = o }); err != nil ||
			last != (Outcome{Wanted: 2, Up: 2}) {
			t.Errorf("active: %+v, %v", last, err)
		}
		if n := len(f.deeds()); n == 0 {
			t.Error("nothing was done")
		}
	})
}

func TestLibreswanHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startPluto("a")
		f.fail = map[string]error{"--status": context.DeadlineExceeded}
		ctx, cancel := context.WithTimeout(t.Context(), passiveLimit)
		defer cancel()
		if err := NewLibreswan(f).Passive(ctx, PassiveOrder{Settled: true}); err != nil {
			t.Error(err)
		}
		if deeds := f.deeds(); len(deeds) < 3 || !slices.Equal(deeds[len(deeds)-2:], []string{"kill", "start"}) ||
			slices.Contains(deeds, "--shutdown --leave-state") {
			t.Errorf("did %q", deeds)
		}
	})
}

func TestLibreswanEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := NewLibreswan(startPluto()).Active(t.Context(), Plan{VIPs: vips}, nil); err == nil {
			t.Error("a pluto without connections passed for one that has negotiated")
		}
	})
}

func TestLibreswanLint(t *testing.T) {
	f := startPluto()
	f.unit = map[string]string{"Id": "ipsec.service", "ExecStop": "whack --shutdown",
		"ExecStartPre": "_stackmanager start"}
	if info, err := NewLibreswan(f).Probe(t.Context(), nil); err != nil || len(info.Lint) != 2 {
		t.Errorf("%+v, %v", info, err)
	}
	f.unit = map[string]string{"ExecStop": "whack --shutdown --leave-state"}
	if info, err := NewLibreswan(f).Probe(t.Context(), nil); err != nil || len(info.Lint) != 0 {
		t.Errorf("%+v, %v", info, err)
	}
}

const established = `iked_sas: 0x55 rspi 0x1 ispi 0x2 192.0.2.1:500->192.0.2.100:500<FQDN/r>[] ESTABLISHED i nexthop 0x0 pol 0x5
  sa_childsas: 0x5
iked_sas: 0x56 rspi 0x3 ispi 0x4 192.0.2.1:500->192.0.2.101:500<FQDN/s>[] AUTH_SUCCESS i nexthop 0x0 pol 0x6
iked_sas: 0x57 rspi 0x5 ispi 0x6 [2001:db8::1]:4500->[2001:db8::100]:4500<FQDN/t>[] ESTABLISHED r nexthop 0x0 pol 0x7
`
