package keying

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// As whack of libreswan 5.2 prints it.
const pluto5Text = `using kernel interface: xfrm
 
interface lo 203.0.113.1:UDP/500
 
configdir=/etc, configfile=/etc/ipsec.conf, secrets=/etc/ipsec.secrets, ipsecdir=/etc/ipsec.d
pluto_version=5.2, pluto_vendorid=OE-Libreswan-5.2
 
Connection list:
 
"net": 10.1.0.0/24===192.0.2.1[@gw.example.org]...192.0.2.100[@remote.example.org]===10.2.0.0/24; unrouted; my_ip=unset; their_ip=unset;
"net":   host: oriented; local: 192.0.2.1; remote: 192.0.2.100;
"net":   our auth:secret, their auth:secret, our autheap:none, their autheap:none;
"net":   routing: unrouted-bare-negotiation; owner: IKE SA #1; negotiating IKE SA: #1;
"six": fd00:1::/64===2001:db8::1[@gw.example.org]...2001:db8::100[@remote.example.org]===fd00:2::/64; routed-tunnel; my_ip=unset; their_ip=unset;
"six":   routing: routed-tunnel; owner: Child SA #4; established IKE SA: #3; established Child SA: #4;
 
Total IPsec connections: loaded 2, active 1
 
State list:
 
#1: "net":500 IKE_SA_INIT_I (sent IKE_SA_INIT request); RETRANSMIT in 0s; idle;
#1: pending Child SA for "net"
#3: "six":500 ESTABLISHED_IKE_SA (established IKE SA); REKEY in 27857s; REPLACE in 28800s; newest; idle;
#4: "six":500 ESTABLISHED_CHILD_SA (established Child SA); REKEY in 27857s; REPLACE in 28800s; newest; eroute owner; IKE SA #3; idle;
`

const pluto5Traffic = `#4: "six", type=ESP, add_time=1700000000, inBytes=0, outBytes=0, maxBytes=2^63B, id='@remote.example.org'
`

// TestParsePluto5: from 5.0 on whack's lines have no number in front.
func TestParsePluto5(t *testing.T) {
	s := parsePluto(pluto5Text)
	want := []plutoConn{{"net", "192.0.2.1", "192.0.2.100"}, {"six", "2001:db8::1", "2001:db8::100"}}
	if d := cmp.Diff(want, s.conns, cmp.AllowUnexported(plutoConn{})); d != "" {
		t.Errorf("connections (-want +got)\n%s", d)
	}
	if d := cmp.Diff(map[string]bool{"net": true, "six": true}, s.busy); d != "" {
		t.Errorf("states (-want +got)\n%s", d)
	}
	if s.version != "5.2" {
		t.Errorf("version %q", s.version)
	}
	if up := parseTraffic(pluto5Traffic); !up[tunnelID{"six", ""}] || len(up) != 1 {
		t.Errorf("up: %v", up)
	}
}

// TestLibreswan5NegotiatesAndIsSilenced: a pluto 5 with SAs of its own is not
// passive, and its connections are negotiated.
func TestLibreswan5NegotiatesAndIsSilenced(t *testing.T) {
	f := &fakePrivileged{absent: map[Daemon]error{}}
	f.said = func(_ Daemon, v Verb) (string, error) {
		switch v.Do {
		case "status":
			return pluto5Text, nil
		case "trafficstatus":
			return pluto5Traffic, nil
		case "shutdown":
			f.absent[Libreswan] = ErrNotRunning
		}
		return "", nil
	}
	d := NewLibreswan(f)
	info, err := d.Probe(t.Context(), vips)
	if err != nil || info.Version != "libreswan 5.2" || info.IKESAs != 2 || info.Children != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	f.deeds()
	if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil || !slices.Equal(f.deeds(),
		[]string{"--status", "--shutdown --leave-state", "start"}) {
		t.Errorf("a pluto with states was not shut down with its state left, or: %v", err)
	}
}

// TestLibreswanKeepsTheTablesUnderTraffic: the start of pluto 5 empties the
// kernel's tables, so none is started while the VIPs are here.
func TestLibreswanKeepsTheTablesUnderTraffic(t *testing.T) {
	f := &fakePrivileged{absent: map[Daemon]error{}}
	d := NewLibreswan(f)
	if !d.Caps().FlushesOnStart {
		t.Error("its start may empty the kernel's tables, and it does not say so")
	}
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil || !slices.Equal(f.deeds(), []string{"kill"}) {
		t.Errorf("before the VIPs have gone a pluto was not just killed, or: %v", err)
	}
	f.absent[Libreswan] = ErrNotRunning
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil || len(f.deeds()) != 0 {
		t.Errorf("before the VIPs have gone a pluto was started, or: %v", err)
	}
	if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil || !slices.Equal(f.deeds(),
		[]string{"start"}) {
		t.Errorf("when the VIPs had gone none was started, or: %v", err)
	}
}

// TestLibreswan5Lint: whose start empties the kernel's tables needs the guard before it.
func TestLibreswan5Lint(t *testing.T) {
	keeps := map[string]string{"Id": "ipsec.service", "ExecStop": "whack --shutdown --leave-state"}
	guarded := map[string]string{"Id": "ipsec.service", "ExecStop": "whack --shutdown --leave-state",
		"ExecStartPre": "exec /usr/sbin/sasyncd guard"}
	for _, tc := range []struct {
		name, status string
		unit         map[string]string
		lint         int
	}{
		{"5.2, by hand", pluto5Text, nil, 0},
		{"5.2 without guard", pluto5Text, keeps, 1},
		{"5.2", pluto5Text, guarded, 0},
		{"4.10", plutoText + "000 pluto_version=4.10, pluto_vendorid=OE-Libreswan-4.10\n", keeps, 0},
	} {
		f := &fakePrivileged{absent: map[Daemon]error{}, unit: tc.unit}
		f.said = func(_ Daemon, v Verb) (string, error) {
			if v.Do == "status" {
				return tc.status, nil
			}
			return "", nil
		}
		info, err := NewLibreswan(f).Probe(t.Context(), nil)
		if err != nil || len(info.Lint) != tc.lint {
			t.Errorf("%s: %+v, %v; want %d", tc.name, info.Lint, err, tc.lint)
		}
	}
}

// TestUnitOfAnother: Debian's strongswan-starter is called ipsec.service too, and is
// not libreswan.
func TestUnitOfAnother(t *testing.T) {
	l := &Local{Places: Places()}
	for id, want := range map[string]bool{"strongswan-starter.service": true, "ipsec.service": false,
		"pluto.service": false} {
		if got := l.others(Libreswan, id); got != want {
			t.Errorf("%s is another's: %v", id, got)
		}
	}
	if l.others(StrongSwan, "strongswan-starter.service") {
		t.Error("strongSwan's is another's")
	}
}
