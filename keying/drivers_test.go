package keying

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/keying/vici"
)

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
	if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil || !slices.Equal(f.deeds(),
		[]string{"show sa", "passive"}) {
		t.Errorf("an iked without SAs was disturbed, or: %v", err)
	}
	var last Outcome
	if err := d.Active(t.Context(), Plan{VIPs: vips}, func(o Outcome) { last = o }); err != nil ||
		!slices.Contains(f.deeds(), "active") {
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
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil || !slices.Equal(f.deeds(), []string{"kill"}) {
		t.Errorf("an iked with SAs was not just killed, or: %v", err)
	}
	if len(src.prefers) != 0 {
		t.Errorf("passive, with sources %v", src.prefers)
	}
	f.absent[OpenIKED] = ErrNotRunning
	if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil || !slices.Equal(f.deeds(),
		[]string{"start"}) {
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
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil {
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
	if err := errors.Join(d.Active(t.Context(), Plan{}, nil), d.Passive(t.Context(), PassiveOrder{})); err != nil {
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

func TestStrongSwanHA(t *testing.T) {
	c := startCharon(t, conn("one", "192.0.2.1", "198.51.100.1", "UNIQUE_NEVER", "net"))
	p := &fakePrivileged{socket: c.Socket}
	d := NewStrongSwanHA(p)
	state := "PASSIVE"
	c.Handle("list-sas", func(vici.Message) (vici.Message, []vici.Packet) {
		return nil, []vici.Packet{{Type: vici.Event, Name: "list-sa",
			Message: vici.Message{vici.Section("one", vici.Value("state", state),
				vici.Section("child-sas", vici.Section("net-1", vici.Value("name", "net"),
					vici.Value("state", "INSTALLED"))))}}}
	})
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil || !slices.Equal(p.deeds(), []string{"tell -1"}) {
		t.Errorf("passive: %v", err)
	}
	state = "ESTABLISHED"
	if err := d.Active(t.Context(), Plan{VIPs: vips}, nil); err != nil || !slices.Equal(p.deeds(),
		[]string{"tell +1"}) {
		t.Errorf("active: %v", err)
	}
	if slices.ContainsFunc(c.Calls(), func(s string) bool { return strings.HasPrefix(s, "initiate") }) {
		t.Error("initiated what was replicated")
	}
	// It does not turn.
	if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil || !slices.Equal(p.deeds(),
		[]string{"tell -1", "kill", "start"}) {
		t.Errorf("a charon that does not turn was not killed, or: %v", err)
	}
	if !d.Caps().CountersOnly {
		t.Error("it replicates SAs itself, and does not say so")
	}
}

func TestAutoFindsTheOneThatRuns(t *testing.T) {
	c := startCharon(t, conn("one", "192.0.2.1", "198.51.100.1", "UNIQUE_NEVER", "net"))
	f := &fakePrivileged{socket: c.Socket, absent: map[Daemon]error{Libreswan: ErrNotRunning, OpenIKED: ErrNotRunning,
		ISAKMPD: ErrNotRunning}}
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
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil || !d.Caps().FlushesOnStart {
		t.Errorf("iked runs, and flushes not, or: %v", err)
	}
	f.absent[OpenIKED] = ErrNotRunning
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil || !d.Caps().FlushesOnStart {
		t.Errorf("iked is about to start, and flushes not, or: %v", err)
	}
	c.Listen(t)
	f.absent[ISAKMPD] = nil
	if err := d.Passive(t.Context(), PassiveOrder{}); err == nil || !strings.Contains(err.Error(),
		"control strongswan") {
		t.Errorf("two daemons run: %v", err)
	}
	if err := NewAll(NewStrongSwan(f), NewOpenIKED(f, &fakeSources{}), NewISAKMPD(f)).Passive(t.Context(),
		PassiveOrder{}); err != nil || !slices.Contains(f.deeds(), "tell M passive") {
		t.Errorf("all: %v", err)
	}
	c.Stop()
	f.absent[ISAKMPD] = ErrNotRunning
	if err := errors.Join(d.Passive(t.Context(), PassiveOrder{}), d.Active(t.Context(), Plan{}, nil)); err != nil {
		t.Errorf("no daemon runs: %v", err)
	}
	c.Listen(t)
}
