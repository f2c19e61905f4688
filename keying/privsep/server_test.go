package privsep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/keying"
	"sasyncd/keying/vici"
	"sasyncd/keying/vici/vicitest"
)

// fakeSource is a configuration that names strongSwan, libreswan, a hook and a file.
type fakeSource struct {
	file string
	err  error
}

func (s fakeSource) Rules() (Rules, error) {
	return Rules{Daemons: []keying.Daemon{keying.StrongSwan, keying.Libreswan},
		Hooks: map[string]string{"outside": "/bin/true"},
		Files: []string{s.file, s.file + ".absent"}}, s.err
}

func (fakeSource) Open(path string) (*os.File, error) { return os.Open(path) }

// recorder notes what root would have done.
type recorder struct {
	keying.Privileged // panics for what is not below
	charon            string
	output            string
	hold              chan struct{} // when set, Kill waits for it, or for its end

	mu    sync.Mutex
	did   []string
	most  int
	under int
}

func (r *recorder) note(f string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.did = append(r.did, fmt.Sprintf(f, args...))
}

func (r *recorder) deeds() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.did)
}

func (r *recorder) Running(_ context.Context, d keying.Daemon) error {
	return fmt.Errorf("find %s: %w", d, keying.ErrNotRunning)
}

func (r *recorder) Dial(ctx context.Context, d keying.Daemon) (net.Conn, error) {
	l := keying.Local{Places: map[keying.Daemon]keying.Place{d: {Socket: r.charon}}}
	return l.Dial(ctx, d)
}

func (r *recorder) Tell(_ context.Context, d keying.Daemon, line string) error {
	r.note("tell %s %s", d, line)
	return nil
}

func (r *recorder) Kill(ctx context.Context, d keying.Daemon) error {
	r.mu.Lock()
	r.under++
	r.most = max(r.most, r.under)
	r.mu.Unlock()
	defer func() { r.mu.Lock(); r.under--; r.mu.Unlock() }()
	if r.hold != nil {
		select {
		case <-r.hold:
		case <-ctx.Done():
			r.note("gave up")
			return ctx.Err()
		}
	}
	r.note("kill %s", d)
	return nil
}

func (r *recorder) Start(_ context.Context, d keying.Daemon) error {
	r.note("start %s", d)
	return errors.New("start: something went wrong")
}

func (r *recorder) Control(_ context.Context, d keying.Daemon, v keying.Verb) (string, error) {
	r.note("control %s %s %s", d, v.Do, v.Conn)
	return r.output, nil
}

func (r *recorder) Unit(context.Context, keying.Daemon) (map[string]string, error) {
	return map[string]string{"Id": "ipsec.service", "KillSignal": "9"}, nil
}

func (r *recorder) Hook(_ context.Context, o keying.Order) error {
	r.note("hook %s %s", o.Group, o.State)
	return nil
}

// serve starts a server for one connection, and returns its other end.
func serve(t *testing.T, src Source, r *recorder) (conn *net.UnixConn, ended <-chan error) {
	t.Helper()
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	client, err := Conn(a)
	if err != nil {
		t.Fatal(err)
	}
	server, err := Conn(b)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	srv := newServer(t, src, r)
	go func() { done <- srv.Serve(context.Background(), server) }()
	t.Cleanup(func() { client.Close() })
	return client, done
}

func newServer(t *testing.T, src Source, r *recorder) *Server {
	return NewServer(src, func(Rules) keying.Privileged { return r }, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func newClient(t *testing.T, src Source, r *recorder) *Client {
	t.Helper()
	conn, _ := serve(t, src, r)
	return NewClient(conn)
}

// TestClientIsPrivileged: what the drivers ask for comes out at the other end,
// and errors mean the same on both sides.
func TestClientIsPrivileged(t *testing.T) {
	r := &recorder{output: strings.Repeat("0123456789", 20000)} // several packets
	c := newClient(t, fakeSource{}, r)
	ctx := within(t)
	if err := c.Running(ctx, keying.StrongSwan); !errors.Is(err, keying.ErrNotRunning) || !strings.Contains(err.Error(),
		"find strongswan") {
		t.Errorf("running: %v", err)
	}
	if err := c.Kill(ctx, keying.StrongSwan); err != nil {
		t.Error(err)
	}
	if err := c.Start(ctx, keying.Libreswan); err == nil || err.Error() != "start: something went wrong" {
		t.Errorf("start: %v", err)
	}
	if err := c.Tell(ctx, keying.StrongSwan, "-1"); err != nil {
		t.Error(err)
	}
	if out, err := c.Control(ctx, keying.Libreswan, keying.Verb{Do: "initiate", Conn: "a"}); err != nil ||
		out != r.output {
		t.Errorf("control: %d bytes, %v, want %d", len(out), err, len(r.output))
	}
	if u, err := c.Unit(ctx, keying.Libreswan); err != nil || u["KillSignal"] != "9" {
		t.Errorf("unit: %v, %v", u, err)
	}
	if err := c.Hook(ctx, keying.Order{State: "active", Group: "outside",
		VIPs: []netip.Addr{netip.MustParseAddr("::1")}}); err != nil {
		t.Error(err)
	}
	want := []string{"kill strongswan", "start libreswan", "tell strongswan -1", "control libreswan initiate a",
		"hook outside active"}
	if got := r.deeds(); !slices.Equal(got, want) {
		t.Errorf("did %q, want %q", got, want)
	}
	if n := len(c.session.waiting); n > 0 {
		t.Errorf("%d requests that were answered are waited for", n)
	}
}

// TestWhatIsNotConfiguredIsRefused: nothing happens, and the connection stays.
func TestWhatIsNotConfiguredIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	c := newClient(t, fakeSource{file: file}, r)
	ctx := within(t)
	open := func(path string) error {
		f, err := c.Open(ctx, path)
		if f != nil {
			f.Close()
		}
		return err
	}
	_, dialErr := c.Dial(ctx, keying.Libreswan)
	_, controlErr := c.Control(ctx, keying.OpenIKED, keying.Verb{Do: "sas"})
	for what, err := range map[string]error{
		"kill":         c.Kill(ctx, keying.ISAKMPD),
		"start":        c.Start(ctx, keying.OpenIKED),
		"running":      c.Running(ctx, keying.OpenIKED),
		"tell":         c.Tell(ctx, keying.ISAKMPD, "M active"),
		"control":      controlErr,
		"dial":         dialErr,
		"hook":         c.Hook(ctx, keying.Order{State: "active", Group: "inside"}),
		"other path":   open("/etc/shadow"),
		"climbing":     open(file + "/../../../../etc/shadow"),
		"same by path": open(filepath.Dir(file) + "/./key"),
		"no path":      open(""),
	} {
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if did := r.deeds(); len(did) != 0 {
		t.Errorf("did %q", did)
	}
	if err := open(file + ".absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	f, err := c.Open(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "content" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("the file can be written to")
	}
}

// TestBadConfigurationAllowsNothing, not even what it names.
func TestBadConfigurationAllowsNothing(t *testing.T) {
	r := &recorder{}
	c := newClient(t, fakeSource{err: errors.New("sasyncd.conf: it belongs to user 1000")}, r)
	if err := c.Kill(within(t), keying.StrongSwan); err == nil || !strings.Contains(err.Error(), "user 1000") {
		t.Errorf("kill: %v", err)
	}
	if err := c.Hook(within(t), keying.Order{State: "active", Group: "outside"}); err == nil {
		t.Error("the hook is run")
	}
	if did := r.deeds(); len(did) != 0 {
		t.Errorf("did %q", did)
	}
}

// TestDialledConnectionIsFiltered: charon's interface can have scripts run as
// root, so only what the driver says reaches it.
func TestDialledConnectionIsFiltered(t *testing.T) {
	charon := vicitest.Start(t)
	charon.Handle("version", func(vici.Message) (vici.Message, []vici.Packet) {
		return vici.Message{vici.Value("daemon", "charon")}, nil
	})
	charon.Handle("load-conn", func(vici.Message) (vici.Message, []vici.Packet) { return nil, nil })
	c := newClient(t, fakeSource{}, &recorder{charon: charon.Socket})
	dial := func() *vici.Client {
		conn, err := c.Dial(within(t), keying.StrongSwan)
		if err != nil {
			t.Fatal(err)
		}
		return vici.NewClient(conn)
	}
	good := dial()
	if m, err := good.Call(within(t), "version"); err != nil || m.Get("daemon") != "charon" {
		t.Errorf("version: %v, %v", m, err)
	}
	if _, err := good.Call(within(t), "load-conn", vici.Section("x", vici.Value("updown", "/tmp/evil"))); err == nil {
		t.Error("load-conn is answered")
	}
	if calls := charon.Calls(); slices.ContainsFunc(calls,
		func(s string) bool { return strings.HasPrefix(s, "load-conn") }) {
		t.Errorf("charon was asked %q", calls)
	}
	// Connections that are open are counted, those that have ended are not.
	var open []*vici.Client
	for range maxDialled {
		open = append(open, dialSoon(t, c))
	}
	if _, err := c.Dial(within(t), keying.StrongSwan); !errors.Is(err, ErrRefused) {
		t.Errorf("one more than %d: %v", maxDialled, err)
	}
	for _, o := range open {
		o.Close()
	}
	dialSoon(t, c).Close()
}

// dialSoon waits for the end of connections that were closed a moment ago.
func dialSoon(t *testing.T, c *Client) *vici.Client {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := c.Dial(within(t), keying.StrongSwan)
		if err == nil {
			return vici.NewClient(conn)
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestStrongSwanThroughIt: the driver does all it has to over the filtered
// connection.
func TestStrongSwanThroughIt(t *testing.T) {
	charon := vicitest.Start(t)
	var mu sync.Mutex
	up := false
	charon.Handle("version", func(vici.Message) (vici.Message, []vici.Packet) {
		return vici.Message{vici.Value("daemon", "charon"), vici.Value("version", "5.9.8")}, nil
	})
	charon.Handle("list-conns", func(vici.Message) (vici.Message, []vici.Packet) {
		return nil, []vici.Packet{{Type: vici.Event, Name: "list-conn", Message: vici.Message{vici.Section("site",
			vici.List("local_addrs", "192.0.2.1"), vici.List("remote_addrs", "198.51.100.7"),
			vici.Value("unique", "UNIQUE_NEVER"),
			vici.Section("children", vici.Section("net")))}}}
	})
	charon.Handle("list-sas", func(vici.Message) (vici.Message, []vici.Packet) {
		mu.Lock()
		defer mu.Unlock()
		if !up {
			return nil, nil
		}
		return nil, []vici.Packet{{Type: vici.Event, Name: "list-sa",
			Message: vici.Message{vici.Section("site", vici.Value("state", "ESTABLISHED"),
				vici.Section("child-sas", vici.Section("net-1", vici.Value("name", "net"),
					vici.Value("state", "INSTALLED"))))}}}
	})
	charon.Handle("list-policies", func(vici.Message) (vici.Message, []vici.Packet) { return nil, nil })
	charon.Handle("initiate", func(vici.Message) (vici.Message, []vici.Packet) {
		mu.Lock()
		defer mu.Unlock()
		up = true
		return nil, nil
	})
	r := &recorder{charon: charon.Socket, output: `[{"name":"site","mobike":"yes"}]`}
	d := keying.NewStrongSwan(newClient(t, fakeSource{}, r))
	vips := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	info, err := d.Probe(within(t), vips)
	if err != nil || info.Version != "charon 5.9.8" || len(info.Lint) != 1 || !strings.Contains(info.Lint[0].What,
		"MOBIKE") {
		t.Errorf("probe: %+v, %v", info, err)
	}
	var last keying.Outcome
	if err := d.Active(within(t), keying.Plan{VIPs: vips}, func(o keying.Outcome) { last = o }); err != nil ||
		last.Up != 1 {
		t.Errorf("active: %+v, %v", last, err)
	}
	if err := d.Passive(within(t), keying.PassiveOrder{Settled: true}); err == nil || !strings.Contains(err.Error(),
		"something went wrong") {
		t.Errorf("passive: %v", err)
	}
	if got, want := r.deeds(), []string{"control strongswan settings ", "kill strongswan",
		"start strongswan"}; !slices.Equal(got, want) {
		t.Errorf("did %q, want %q", got, want)
	}
}
