package keying

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/keying/vici"
	"sasyncd/keying/vici/vicitest"
)

// fakePrivileged notes what it is told; sockets are real.
type fakePrivileged struct {
	socket string
	unit   map[string]string
	said   func(Daemon, Verb) (string, error)
	onKill func()
	absent map[Daemon]error // instead of the socket: why Running fails

	mu   sync.Mutex
	did  []string
	fail map[string]error
}

func (f *fakePrivileged) note(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did = append(f.did, what)
	return f.fail[what]
}

func (f *fakePrivileged) deeds() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.did
	f.did = nil
	return d
}

func (f *fakePrivileged) Dial(ctx context.Context, d Daemon) (net.Conn, error) {
	l := Local{Places: map[Daemon]Place{d: {Socket: f.socket}}}
	return l.Dial(ctx, d)
}
func (f *fakePrivileged) Running(ctx context.Context, d Daemon) error {
	if f.absent != nil {
		return f.absent[d]
	}
	c, err := f.Dial(ctx, d)
	if err == nil {
		c.Close()
	}
	return err
}
func (f *fakePrivileged) Tell(_ context.Context, d Daemon, line string) error {
	return f.note("tell " + line)
}
func (f *fakePrivileged) Kill(context.Context, Daemon) error {
	if f.onKill != nil {
		f.onKill()
	}
	return f.note("kill")
}
func (f *fakePrivileged) Start(context.Context, Daemon) error { return f.note("start") }
func (f *fakePrivileged) Control(_ context.Context, d Daemon, v Verb) (string, error) {
	args, err := v.args(d)
	if err != nil {
		return "", err
	}
	if err := f.note(strings.Join(args, " ")); err != nil || f.said == nil {
		return "", err
	}
	return f.said(d, v)
}
func (f *fakePrivileged) Unit(context.Context, Daemon) (map[string]string, error) {
	return f.unit, nil
}
func (f *fakePrivileged) Hook(_ context.Context, o Order) error {
	return f.note("hook " + strings.Join(o.environment(), " "))
}

// fakeCharon negotiates: an initiated child is up after a while, unless its
// name begins with "bad".
type fakeCharon struct {
	*vicitest.Server
	takes time.Duration

	mu      sync.Mutex
	conns   []vici.Entry
	begun   map[tunnelID]time.Time
	remotes map[string]string
	most    int // negotiations with one remote at once
	early   int // initiations of what was up or under way
}

func conn(name, local, remote, unique string, children ...string) vici.Entry {
	var ch []vici.Entry
	for _, c := range children {
		ch = append(ch, vici.Section(c, vici.Value("mode", "TUNNEL")))
	}
	return vici.Section(name, vici.List("local_addrs", local), vici.List("remote_addrs", remote),
		vici.Value("version", "IKEv2"), vici.Value("unique", unique), vici.Section("children", ch...))
}

func startCharon(t *testing.T, conns ...vici.Entry) *fakeCharon {
	c := &fakeCharon{Server: vicitest.Start(t), takes: 5 * time.Millisecond, conns: conns,
		begun: make(map[tunnelID]time.Time), remotes: make(map[string]string)}
	for _, e := range conns {
		c.remotes[e.Name] = e.Section.Strings("remote_addrs")[0]
	}
	c.Handle("version", func(vici.Message) (vici.Message, []vici.Packet) {
		return vici.Message{vici.Value("daemon", "charon-systemd"), vici.Value("version", "5.9.8")}, nil
	})
	c.Handle("list-conns", func(vici.Message) (vici.Message, []vici.Packet) {
		c.mu.Lock()
		defer c.mu.Unlock()
		var evs []vici.Packet
		for _, e := range c.conns {
			evs = append(evs, vici.Packet{Type: vici.Event, Name: "list-conn", Message: vici.Message{e}})
		}
		return nil, evs
	})
	c.Handle("list-policies", func(vici.Message) (vici.Message, []vici.Packet) { return nil, nil })
	c.Handle("list-sas", func(vici.Message) (vici.Message, []vici.Packet) { return nil, c.sas() })
	c.Handle("initiate", c.initiate)
	return c
}

func (c *fakeCharon) up(id tunnelID) bool {
	b, ok := c.begun[id]
	return ok && time.Since(b) >= c.takes && !strings.HasPrefix(id.child, "bad")
}

func (c *fakeCharon) underWay(id tunnelID) bool {
	b, ok := c.begun[id]
	return ok && time.Since(b) < c.takes
}

func (c *fakeCharon) sas() []vici.Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	var evs []vici.Packet
	for id := range c.begun {
		if !c.up(id) && !c.underWay(id) {
			continue
		}
		sa := []vici.Entry{vici.Value("state", "ESTABLISHED")}
		if c.underWay(id) {
			sa = append(sa, vici.List("tasks-active", "CHILD_CREATE"))
		} else {
			sa = append(sa, vici.Section("child-sas", vici.Section(id.child+"-1",
				vici.Value("name", id.child), vici.Value("state", "INSTALLED"))))
		}
		evs = append(evs, vici.Packet{Type: vici.Event, Name: "list-sa",
			Message: vici.Message{vici.Section(id.conn, sa...)}})
	}
	return evs
}

func (c *fakeCharon) initiate(args vici.Message) (vici.Message, []vici.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := tunnelID{args.Get("ike"), args.Get("child")}
	if id.child == "bad-name" {
		return vici.Message{vici.Value("success", "no"), vici.Value("errmsg", "CHILD_SA config 'bad-name' not found")},
			nil
	}
	if args.Get("timeout") != "-1" {
		return vici.Message{vici.Value("success", "no"), vici.Value("errmsg", "would block")}, nil
	}
	if c.up(id) || c.underWay(id) {
		c.early++
	}
	c.begun[id] = time.Now()
	n := 0
	for other := range c.begun {
		if c.underWay(other) && c.remotes[other.conn] == c.remotes[id.conn] {
			n++
		}
	}
	c.most = max(c.most, n)
	go func() {
		time.Sleep(c.takes + time.Millisecond)
		c.Emit("child-updown", vici.Message{vici.Value("up", "yes")})
	}()
	return vici.Message{vici.Value("success", "yes")}, nil
}

var vips = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

func TestStrongSwanInitiatesWhatIsConfigured(t *testing.T) {
	var many []string
	for i := range 8 {
		many = append(many, fmt.Sprintf("net%d", i))
	}
	c := startCharon(t,
		conn("one", "192.0.2.1", "198.51.100.1", "UNIQUE_NEVER", many...),
		conn("two", "2001:db8::1", "2001:db8:1::1", "UNIQUE_NEVER", "v6"),
		conn("roadwarrior", "192.0.2.1", "%any", "UNIQUE_NEVER", "rw"),
		conn("pool", "192.0.2.1", "203.0.113.0/24", "UNIQUE_NEVER", "sub"),
		conn("range", "192.0.2.1", "203.0.113.1-203.0.113.9", "UNIQUE_NEVER", "sub"),
		conn("named", "192.0.2.1", "gw-a.example.org", "UNIQUE_NEVER", "dns"),
		conn("node", "192.0.2.11", "198.51.100.7", "UNIQUE_NEVER", "own"))
	c.begun[tunnelID{"one", "net3"}] = time.Unix(0, 0) // negotiated before
	d := NewStrongSwan(&fakePrivileged{socket: c.Socket})
	var last Outcome
	err := d.Active(t.Context(), Plan{Term: 1, VIPs: vips}, func(o Outcome) { last = o })
	if err != nil {
		t.Fatal(err)
	}
	if last != (Outcome{Wanted: 10, Up: 10}) {
		t.Errorf("outcome %+v", last)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.begun {
		if !slices.Contains([]string{"one", "two", "named"}, id.conn) {
			t.Errorf("initiated %v", id)
		}
	}
	if len(c.begun) != 10 || c.early != 0 || c.most != 2 {
		t.Errorf("%d tunnels, %d of them twice, at most %d at once with one remote; want 10, 0, 2", len(c.begun),
			c.early, c.most)
	}
}

func TestStrongSwanReportsWhatFails(t *testing.T) {
	c := startCharon(t, conn("one", "192.0.2.1", "198.51.100.1", "UNIQUE_NEVER", "good", "bad-name", "bad-psk"))
	d := NewStrongSwan(&fakePrivileged{socket: c.Socket})
	var last Outcome
	err := d.Active(t.Context(), Plan{VIPs: vips}, func(o Outcome) { last = o })
	if err == nil || !strings.Contains(err.Error(), "2 of 3") || !strings.Contains(err.Error(),
		"one/bad-name: CHILD_SA config") {
		t.Errorf("error: %v", err)
	}
	if last != (Outcome{Wanted: 3, Up: 1, Failed: 2}) {
		t.Errorf("outcome %+v", last)
	}
}

func TestStrongSwanFindsWhatIsLoadedLate(t *testing.T) {
	c := startCharon(t)
	d := NewStrongSwan(&fakePrivileged{socket: c.Socket})
	late := time.AfterFunc(300*time.Millisecond, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.remotes["one"] = "198.51.100.1"
		c.conns = append(c.conns, conn("one", "192.0.2.1", "198.51.100.1", "UNIQUE_NEVER", "net"))
	})
	defer late.Stop()
	var last Outcome
	if err := d.Active(t.Context(), Plan{VIPs: vips}, func(o Outcome) { last = o }); err != nil || last.Up != 1 {
		t.Errorf("outcome %+v, %v", last, err)
	}
}

func TestStrongSwanActiveEndsWithItsContext(t *testing.T) {
	c := startCharon(t, conn("one", "192.0.2.1", "198.51.100.1", "UNIQUE_NEVER", "slow"))
	c.takes = time.Hour
	d := NewStrongSwan(&fakePrivileged{socket: c.Socket})
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Active(ctx, Plan{VIPs: vips}, func(o Outcome) {
		if o.Pending == 1 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestStrongSwanPassive(t *testing.T) {
	c := startCharon(t, conn("one", "192.0.2.1", "198.51.100.1", "UNIQUE_NEVER", "net"))
	p := &fakePrivileged{socket: c.Socket}
	d := NewStrongSwan(p)
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil || len(p.deeds()) != 0 {
		t.Errorf("a charon without SAs was disturbed, or: %v", err)
	}
	c.mu.Lock()
	c.begun[tunnelID{"one", "net"}] = time.Unix(0, 0)
	c.mu.Unlock()
	if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil || !slices.Equal(p.deeds(),
		[]string{"kill", "start"}) {
		t.Errorf("a charon with SAs was not killed and started, or: %v", err)
	}
	// While traffic waits for the hand-over, nothing but what it needs is done.
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil || !slices.Equal(p.deeds(), []string{"kill"}) {
		t.Errorf("before the VIPs have gone a charon with SAs was not only killed, or: %v", err)
	}
	p.fail = map[string]error{"kill": errors.New("not permitted")}
	if err := d.Passive(t.Context(), PassiveOrder{}); err == nil || slices.Contains(p.deeds(), "start") {
		t.Errorf("a charon that cannot be killed is passive: %v", err)
	}
	c.Stop()
	if err := d.Passive(t.Context(), PassiveOrder{Settled: true}); err != nil || !slices.Equal(p.deeds(),
		[]string{"start"}) {
		t.Errorf("a charon that is not there was not only started, or: %v", err)
	}
	c.Listen(t)
}

func TestStrongSwanWatch(t *testing.T) {
	c := startCharon(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := NewStrongSwan(&fakePrivileged{socket: c.Socket}).Watch(ctx)
	if n := <-w; n.Kind != NoticeBack {
		t.Errorf("first notice %v", n)
	}
	c.Stop()
	for n := range w {
		if n.Kind == NoticeLost {
			break
		}
	}
	c.Listen(t)
	if n := <-w; n.Kind != NoticeBack {
		t.Errorf("notice %v after the daemon came back", n)
	}
	cancel()
	for range w { // it is closed
	}
}

func TestStrongSwanLint(t *testing.T) {
	c := startCharon(t,
		conn("good", "192.0.2.1", "198.51.100.1", "UNIQUE_NEVER", "a"),
		conn("contact", "192.0.2.1", "198.51.100.2", "UNIQUE_NO", "a"),
		conn("anywhere", "%any", "198.51.100.3", "UNIQUE_NEVER", "a"),
		conn("node", "192.0.2.11", "198.51.100.3", "UNIQUE_NO", "a"))
	c.Handle("list-policies", func(vici.Message) (vici.Message, []vici.Packet) {
		return nil, []vici.Packet{{Type: vici.Event, Name: "list-policy",
			Message: vici.Message{vici.Section("good/a")}}}
	})
	p := &fakePrivileged{socket: c.Socket, unit: map[string]string{"Id": "strongswan.service", "KillSignal": "15"}}
	info, err := NewStrongSwan(p).Probe(t.Context(), vips)
	if err != nil || info.Version != "charon-systemd 5.9.8" {
		t.Errorf("%+v, %v", info, err)
	}
	var got []string
	for _, l := range info.Lint {
		got = append(got, l.What)
	}
	for i, want := range []string{"strongswan.service: a stop", "contact sends INITIAL_CONTACT", "anywhere may leave",
		"good/a has a trap"} {
		if len(got) != 4 || !strings.Contains(got[i], want) {
			t.Fatalf("lint %q, want %q at %d of 4", got, want, i)
		}
	}
	p.unit["KillSignal"] = "9"
	if info, _ := NewStrongSwan(p).Probe(t.Context(), nil); len(info.Lint) != 1 {
		t.Errorf("lint with the drop-in and unknown VIPs: %v", info.Lint)
	}
}
