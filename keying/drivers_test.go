package keying

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sasyncd/keying/vici"
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
		{"net", "192.0.2.1", "192.0.2.100"}, {"plain", "192.0.2.1", "198.51.100.7"}, {"six", "2001:db8::1", "2001:db8::100"},
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
	f := &fakePluto{fakePrivileged: &fakePrivileged{absent: map[Daemon]error{}}, runs: true, conns: conns, up: make(map[string]bool)}
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
	if err := d.Passive(t.Context(), Hush{Settled: true}); err != nil || !slices.Equal(f.deeds(), []string{"--status"}) {
		t.Errorf("a pluto without states was disturbed, or: %v", err)
	}
	f.up["a"] = true
	var last Outcome
	if err := d.Active(t.Context(), Plan{VIPs: vips}, func(o Outcome) { last = o }); err != nil || last != (Outcome{Wanted: 2, Up: 2}) {
		t.Errorf("active: %+v, %v", last, err)
	}
	deeds := f.deeds()
	if deeds[0] != "--listen" || !slices.Contains(deeds, "--initiate --asynchronous --name b") || slices.Contains(deeds, "--initiate --asynchronous --name a") {
		t.Errorf("did %q", deeds)
	}
	if err := d.Passive(t.Context(), Hush{Settled: true}); err != nil || !slices.Equal(f.deeds(), []string{"--status", "--shutdown --leave-state", "start"}) {
		t.Errorf("passive did not shut down with its state left, or: %v", err)
	}
	f.absent[Libreswan] = nil
	f.up["a"] = true
	f.fail = map[string]error{"--shutdown --leave-state": context.DeadlineExceeded}
	if err := d.Passive(t.Context(), Hush{Settled: true}); err != nil || !slices.Contains(f.deeds(), "kill") {
		t.Errorf("a pluto that hangs was not killed, or: %v", err)
	}
	f.deeds()
	if err := d.Passive(t.Context(), Hush{}); err != nil || !slices.Equal(f.deeds(), []string{"kill"}) {
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
		if err := d.Passive(t.Context(), Hush{Settled: true}); err != nil {
			t.Error(err)
		}
		for _, deed := range f.deeds() {
			if deed != "--status" {
				t.Errorf("a pluto that starts was disturbed: %s", deed)
			}
		}
		began = time.Now()
		var last Outcome
		if err := d.Active(t.Context(), Plan{VIPs: vips}, func(o Outcome) { last = o }); err != nil || last != (Outcome{Wanted: 2, Up: 2}) {
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
		if err := NewLibreswan(f).Passive(ctx, Hush{Settled: true}); err != nil {
			t.Error(err)
		}
		if deeds := f.deeds(); len(deeds) < 3 || !slices.Equal(deeds[len(deeds)-2:], []string{"kill", "start"}) || slices.Contains(deeds, "--shutdown --leave-state") {
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
	f.unit = map[string]string{"Id": "ipsec.service", "ExecStop": "whack --shutdown", "ExecStartPre": "_stackmanager start"}
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

func TestParseIKED(t *testing.T) {
	all, up := parseIKED(established)
	want := map[pair]int{
		{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.100")}:     1,
		{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::100")}: 1,
	}
	if all != 3 || !maps.Equal(up, want) {
		t.Errorf("%d SAs, of those established %v", all, up)
	}
	if got := hostOf("2001:db8::1:500"); got != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("an address without brackets: %v", got)
	}
}

// As iked 7.2 -nv prints it.
const ikedConf = `ikev2 "v4" active tunnel esp proto { udp } inet from 10.1.0.0/24 to 10.2.0.0/24 local 192.0.2.1 peer 192.0.2.100 ikesa enc aes-128 prf hmac-sha2-256 auth hmac-sha2-256 group curve25519 childsa enc aes-128 auth hmac-sha2-512 group none noesn srcid gw dstid r lifetime 10800 bytes 4294967296 psk 0x636f7272656374
ikev2 "rw" passive tunnel esp inet from 10.1.0.0/24 to 10.3.0.0/24 local 192.0.2.1 peer 192.0.2.101 srcid gw psk 0x636f7272656374
ikev2 "any" active tunnel esp inet from 10.1.0.0/24 to 10.4.0.0/24 srcid gw psk 0x636f7272656374
ikev2 "six" active tunnel esp inet6 from fd00:1::/64 to fd00:2::/64 local 2001:db8::1 peer 2001:db8::100 srcid gw psk 0x636f7272656374
configuration OK
`

// TestIKEDEnds: nothing but addresses leaves the privileged side.
func TestIKEDEnds(t *testing.T) {
	if got, want := ikedEnds(ikedConf), "192.0.2.1 192.0.2.100\n2001:db8::1 2001:db8::100\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

type fakeSources struct{ prefers []pair }

func (s *fakeSources) Prefer(remote, source netip.Addr) error {
	s.prefers = append(s.prefers, pair{source, remote})
	return nil
}

func (s *fakeSources) Forget() error {
	s.prefers = nil
	return nil
}

// TestWatchNoticesAQuickRestart: pluto is back 0.1 s after its death, which no
// look may catch.
func TestWatchNoticesAQuickRestart(t *testing.T) {
	f := startPluto()
	id := make(chan string, 1)
	id <- "1"
	f.said = func(Daemon, Verb) (string, error) {
		now := <-id
		id <- now
		return now, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := NewLibreswan(f).Watch(ctx)
	if n := <-w; n.Kind != NoticeBack {
		t.Errorf("first %v", n)
	}
	<-id
	id <- "2"
	if a, b := <-w, <-w; a.Kind != NoticeLost || b.Kind != NoticeBack {
		t.Errorf("a restart shows as %v, %v", a, b)
	}
	cancel()
	for range w {
		// until it is closed
	}
}

func TestOpenIKED(t *testing.T) {
	f := &fakePrivileged{absent: map[Daemon]error{}}
	sas := ""
	f.said = func(_ Daemon, v Verb) (string, error) {
		switch v.Do {
		case "sas":
			return sas, nil
		case "policies":
			return "192.0.2.1 192.0.2.100\n192.0.2.11 192.0.2.101\n", nil
		case "active":
			sas = established
		}
		return "", nil
	}
	src := &fakeSources{}
	d := NewOpenIKED(f, src)
	if err := d.Passive(t.Context(), Hush{Settled: true}); err != nil || !slices.Equal(f.deeds(), []string{"show sa", "passive"}) {
		t.Errorf("an iked without SAs was disturbed, or: %v", err)
	}
	var last Outcome
	if err := d.Active(t.Context(), Plan{VIPs: vips}, func(o Outcome) { last = o }); err != nil || !slices.Contains(f.deeds(), "active") {
		t.Errorf("active: %v", err)
	}
	if last != (Outcome{Wanted: 1, Up: 1}) {
		t.Errorf("of one policy from a vip and one from another address: %+v", last)
	}
	// It would speak from an address of this node alone.
	if want := (pair{vips[0], netip.MustParseAddr("192.0.2.100")}); !slices.Equal(src.prefers, []pair{want}) {
		t.Errorf("sources %v, want %v", src.prefers, want)
	}
	// While the VIPs are here, a start would empty the kernel under live traffic.
	if err := d.Passive(t.Context(), Hush{}); err != nil || !slices.Equal(f.deeds(), []string{"kill"}) {
		t.Errorf("an iked with SAs was not just killed, or: %v", err)
	}
	if len(src.prefers) != 0 {
		t.Errorf("passive, with sources %v", src.prefers)
	}
	f.absent[OpenIKED] = ErrNotRunning
	if err := d.Passive(t.Context(), Hush{Settled: true}); err != nil || !slices.Equal(f.deeds(), []string{"start"}) {
		t.Errorf("an iked that was killed was not started when the VIPs had gone, or: %v", err)
	}
	if !d.Caps().FlushesOnStart {
		t.Error("its start empties the kernel's table, and it does not say so")
	}
}

func TestISAKMPDByFIFO(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "isakmpd.fifo")
	p := &Local{Places: map[Daemon]Place{ISAKMPD: {FIFO: fifo}}}
	d := NewISAKMPD(p)
	if err := d.Passive(t.Context(), Hush{}); err != nil {
		t.Errorf("an isakmpd that does not run is not passive: %v", err)
	}
	if err := d.Active(t.Context(), Plan{}, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("an isakmpd that does not run is active: %v", err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Active(t.Context(), Plan{}, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("nobody reads the fifo: %v", err)
	}
	r, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := errors.Join(d.Active(t.Context(), Plan{}, nil), d.Passive(t.Context(), Hush{})); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("M active\nM passive\n"))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "M active\nM passive\n" {
		t.Errorf("told %q, %v", got, err)
	}
	// A file that somebody left there is not written to.
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Places[ISAKMPD] = Place{FIFO: plain}
	if err := d.Active(t.Context(), Plan{}, nil); err == nil {
		t.Error("wrote to a plain file")
	}
}

func script(t *testing.T, body string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestExec(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	p := &Local{Hooks: map[string]string{"carp1": script(t, `{ echo "$SASYNCD_STATE $SASYNCD_GROUP $SASYNCD_TERM $SASYNCD_VIPS"; cat; } > `+out)}}
	d := NewExec(p, "carp1")
	if err := d.Active(t.Context(), Plan{Term: 7, VIPs: vips, Reason: "no master heard"}, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	env, in, _ := strings.Cut(string(b), "\n")
	if env != "active carp1 7 192.0.2.1 2001:db8::1" {
		t.Errorf("environment %q", env)
	}
	var o Order
	if err := json.Unmarshal([]byte(in), &o); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Order{State: "active", Group: "carp1", Term: 7, VIPs: vips, Reason: "no master heard"}, o, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("standard input (-want +got)\n%s", d)
	}
	p.Hooks["carp1"] = script(t, "echo cannot do that >&2; exit 3")
	if err := d.Passive(t.Context(), Hush{}); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "cannot do that") {
		t.Errorf("a hook that failed: %v", err)
	}
	p.Hooks["carp1"] = script(t, "sleep 1000 & sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := d.Passive(ctx, Hush{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hook that hangs: %v", err)
	}
	if err := NewExec(p, "carp2").Passive(t.Context(), Hush{}); err == nil {
		t.Error("a group without a hook has one run")
	}
}

// TestHookIsToldPlainText: the reason comes from elsewhere and is perhaps put
// into a line of a shell.
func TestHookIsToldPlainText(t *testing.T) {
	f := &fakePrivileged{}
	if err := NewExec(f, "g").Passive(t.Context(), Hush{Reason: "`reboot`\n$(x) " + strings.Repeat("a", 300)}); err != nil {
		t.Fatal(err)
	}
	if did := f.deeds(); strings.ContainsAny(did[0], "`$\n") || len(did[0]) > 400 {
		t.Errorf("told %q", did)
	}
	p := &Local{Hooks: map[string]string{"g": "/bin/true"}}
	for _, o := range []Order{{State: "other", Group: "g"}, {State: "active", Group: "g", Reason: "$(x)"}, {State: "active", Group: "g", Reason: "a\nb"}} {
		if err := p.Hook(t.Context(), o); err == nil {
			t.Errorf("%+v is carried out", o)
		}
	}
}

// TestHookOfOthersIsNotRun as root.
func TestHookOfOthersIsNotRun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has rights to lend")
	}
	path := script(t, "exit 0")
	p := &Local{Hooks: map[string]string{"g": path}}
	run := func() error { return p.Hook(t.Context(), Order{State: "active", Group: "g"}) }
	if err := run(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := run(); err == nil {
		t.Error("a program that all can write to is run as root")
	}
	if err := errors.Join(os.Chmod(path, 0o755), os.Chown(path, 990, 0)); err != nil {
		t.Fatal(err)
	}
	if err := run(); err == nil {
		t.Error("a program of another user is run as root")
	}
}

// TestLinesAreFixed: nothing but the listed lines goes into a FIFO.
func TestLinesAreFixed(t *testing.T) {
	p := &Local{Places: Places()}
	for _, line := range []string{"*1", "", "M active\nR", "+1\n"} {
		if err := p.Tell(t.Context(), StrongSwan, line); err == nil || !strings.Contains(err.Error(), "no line") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestVerbsAreFixed: nothing but the listed command lines can be asked for.
func TestVerbsAreFixed(t *testing.T) {
	for _, v := range []Verb{{"shutdown; reboot", ""}, {"", ""}, {"initiate", "--shutdown"}, {"initiate", ""}, {"initiate", "a b"}, {"initiate", "$(x)"}} {
		if args, err := v.args(Libreswan); err == nil {
			t.Errorf("%+v became %q", v, args)
		}
	}
	if _, err := (Verb{Do: "shutdown"}).args(OpenIKED); err == nil {
		t.Error("a verb of one daemon is taken for another")
	}
	if args, err := (Verb{"initiate", "site-1/v4.6"}).args(Libreswan); err != nil || args[3] != "site-1/v4.6" {
		t.Errorf("%q, %v", args, err)
	}
}

func TestKillFindsTheSocketsOwner(t *testing.T) {
	p := &Local{Places: map[Daemon]Place{StrongSwan: {Socket: filepath.Join(t.TempDir(), "none"), Comms: []string{"charon"}}}}
	if err := p.Kill(t.Context(), StrongSwan); err != nil {
		t.Errorf("nothing to kill: %v", err)
	}
	// This test's own process serves the socket, and is not charon.
	c := startCharon(t)
	p.Places[StrongSwan] = Place{Socket: c.Socket, Comms: []string{"charon"}}
	if err := p.Kill(t.Context(), StrongSwan); err == nil {
		t.Error("killed what is not charon")
	}
}

// TestKillTakesAllOfADaemon: with one process left, that one would clean up
// after the others.
func TestKillTakesAllOfADaemon(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "manyd")
	script := "#!/bin/sh\nset -m\n(while :; do sleep 0.1; done) & echo $! > " + dir + "/pid.new\n(while :; do sleep 0.1; done) & (while :; do sleep 0.1; done) &\nmv " + dir + "/pid.new " + dir + "/pid\nwait\n"
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Local{Places: map[Daemon]Place{OpenIKED: {PIDFile: dir + "/pid", Comms: []string{"manyd"}, Many: true}}}
	var pids []int
	for begun := time.Now(); len(pids) < 4; {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("it did not start")
		}
		if b, err := os.ReadFile(dir + "/pid"); err == nil {
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			pids = family(pid, p.Places[OpenIKED])
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := p.Kill(t.Context(), OpenIKED); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for _, pid := range pids {
		if comm, _, err := identify(pid); err == nil && comm == "manyd" {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(b), ") Z ") {
				t.Errorf("process %d is still there: %s", pid, b)
			}
		}
	}
}

func TestStrongSwanHA(t *testing.T) {
	c := startCharon(t, conn("one", "192.0.2.1", "198.51.100.1", "UNIQUE_NEVER", "net"))
	p := &fakePrivileged{socket: c.Socket}
	d := NewStrongSwanHA(p)
	state := "PASSIVE"
	c.Handle("list-sas", func(vici.Message) (vici.Message, []vici.Packet) {
		return nil, []vici.Packet{{Type: vici.Event, Name: "list-sa", Message: vici.Message{vici.Section("one", vici.Value("state", state),
			vici.Section("child-sas", vici.Section("net-1", vici.Value("name", "net"), vici.Value("state", "INSTALLED"))))}}}
	})
	if err := d.Passive(t.Context(), Hush{}); err != nil || !slices.Equal(p.deeds(), []string{"tell -1"}) {
		t.Errorf("passive: %v", err)
	}
	state = "ESTABLISHED"
	if err := d.Active(t.Context(), Plan{VIPs: vips}, nil); err != nil || !slices.Equal(p.deeds(), []string{"tell +1"}) {
		t.Errorf("active: %v", err)
	}
	if slices.ContainsFunc(c.Calls(), func(s string) bool { return strings.HasPrefix(s, "initiate") }) {
		t.Error("initiated what was replicated")
	}
	// It does not turn.
	if err := d.Passive(t.Context(), Hush{Settled: true}); err != nil || !slices.Equal(p.deeds(), []string{"tell -1", "kill", "start"}) {
		t.Errorf("a charon that does not turn was not killed, or: %v", err)
	}
	if !d.Caps().CountersOnly {
		t.Error("it replicates SAs itself, and does not say so")
	}
}

func TestAutoFindsTheOneThatRuns(t *testing.T) {
	c := startCharon(t, conn("one", "192.0.2.1", "198.51.100.1", "UNIQUE_NEVER", "net"))
	f := &fakePrivileged{socket: c.Socket, absent: map[Daemon]error{Libreswan: ErrNotRunning, OpenIKED: ErrNotRunning, ISAKMPD: ErrNotRunning}}
	d := NewAuto(NewStrongSwan(f), NewLibreswan(f), NewOpenIKED(f, &fakeSources{}), NewISAKMPD(f))
	var last Outcome
	if err := d.Active(t.Context(), Plan{VIPs: vips}, func(o Outcome) { last = o }); err != nil || last.Up != 1 {
		t.Errorf("%+v, %v", last, err)
	}
	if info, err := d.Probe(t.Context(), vips); err != nil || info.Version != "charon-systemd 5.9.8" {
		t.Errorf("%+v, %v", info, err)
	}
	if d.Caps().FlushesOnStart {
		t.Error("strongswan runs, and flushes")
	}
	// What its start flushes must be known when it does not run yet.
	c.Stop()
	f.absent[OpenIKED] = nil
	if err := d.Passive(t.Context(), Hush{}); err != nil || !d.Caps().FlushesOnStart {
		t.Errorf("iked runs, and flushes not, or: %v", err)
	}
	f.absent[OpenIKED] = ErrNotRunning
	if err := d.Passive(t.Context(), Hush{}); err != nil || !d.Caps().FlushesOnStart {
		t.Errorf("iked is about to start, and flushes not, or: %v", err)
	}
	c.Listen(t)
	f.absent[ISAKMPD] = nil
	if err := d.Passive(t.Context(), Hush{}); err == nil || !strings.Contains(err.Error(), "control strongswan") {
		t.Errorf("two daemons run: %v", err)
	}
	if err := NewAll(NewStrongSwan(f), NewOpenIKED(f, &fakeSources{}), NewISAKMPD(f)).Passive(t.Context(), Hush{}); err != nil || !slices.Contains(f.deeds(), "tell M passive") {
		t.Errorf("all: %v", err)
	}
	c.Stop()
	f.absent[ISAKMPD] = ErrNotRunning
	if err := errors.Join(d.Passive(t.Context(), Hush{}), d.Active(t.Context(), Plan{}, nil)); err != nil {
		t.Errorf("no daemon runs: %v", err)
	}
	c.Listen(t)
}
