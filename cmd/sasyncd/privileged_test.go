package main

import (
	"context"
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

	"sasyncd/cmd/internal/conf"
	"sasyncd/keying"
	"sasyncd/keying/privsep"
)

// TestRulesAreRootsOwn: what the privileged process allows is what the file
// says, and only if root alone can have written it.
func TestRulesAreRootsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of root can be made by root only")
	}
	path := filepath.Join(t.TempDir(), "sasyncd.conf")
	const text = "interface outside\ncontrol strongswan\ninterface inside\ncontrol exec \"/usr/local/sbin/hook\"\n" +
		"peer 10.0.0.2\nsharedkey file \"/etc/sasyncd.key\"\nsharedkey file \"/etc/old.key\"\n"
	write := func(text string, uid int, mode os.FileMode) source {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return source{path}
	}
	r, err := write(text, 0, 0o600).Rules()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Daemons, []keying.Daemon{keying.StrongSwan}) || len(r.Hooks) != 1 ||
		r.Hooks["inside"] != "/usr/local/sbin/hook" ||
		!slices.Equal(r.Files, []string{path, "/etc/sasyncd.key", "/etc/old.key"}) {
		t.Errorf("rules are %+v", r)
	}
	for name, tt := range map[string]struct {
		text string
		uid  int
		mode os.FileMode
	}{"of another user": {text, 990, 0o600}, "writable by its group": {text, 0, 0o660},
		"open to all": {text, 0, 0o644}} {
		if r, err := write(tt.text, tt.uid, tt.mode).Rules(); err == nil || len(r.Daemons)+len(r.Hooks)+
			len(r.Files) != 0 {
			t.Errorf("%s: rules are %+v, %v", name, r, err)
		}
	}
	// One that is wrong may be read, so that the reader can say what is wrong.
	if r, err := write("intreface x\n"+text, 0, 0o600).Rules(); err == nil || len(r.Daemons)+len(r.Hooks) != 0 ||
		!slices.Equal(r.Files, []string{path}) {
		t.Errorf("wrong: rules are %+v, %v", r, err)
	}
}

// TestConfiguredPlaces: what sasyncd.conf says about where an IKE daemon is holds, and the
// rest is looked for.
func TestConfiguredPlaces(t *testing.T) {
	root := t.TempDir()
	for _, tt := range []struct {
		control string
		d       keying.Daemon
		want    string // socket, PID file, FIFO, settings, or a distribution's place
	}{
		{`strongswan at "/x/vici" settings "/y/swanctl.conf"`, keying.StrongSwan, "/x/vici  /x/charon.ha /y/swanctl.conf"},
		{`strongswan-ha at "/x/vici" fifo "/z/ha"`, keying.StrongSwan, "/x/vici  /z/ha /etc/swanctl/swanctl.conf"},
		{`strongswan-ha fifo "/z/ha"`, keying.StrongSwan, "/run/charon.vici  /z/ha /etc/swanctl/swanctl.conf"},
		{`strongswan`, keying.StrongSwan, "/run/charon.vici  /run/charon.ha /etc/swanctl/swanctl.conf"},
		{`libreswan at "/x/pid"`, keying.Libreswan, " /x/pid  "},
		{`iked at "/x/sock"`, keying.OpenIKED, "/x/sock   "},
		{`isakmpd at "/x/fifo"`, keying.ISAKMPD, "  /x/fifo "},
	} {
		c, err := conf.ParseSasyncd(root, []byte("interface a\npeer 10.0.0.2\nsharedkey \"0123456789abcdef\"\ncontrol "+
			tt.control+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		p := places(c)[tt.d]
		if got := p.Socket + " " + p.PIDFile + " " + p.FIFO + " " + p.Settings; got != tt.want {
			t.Errorf("control %s: %q, want %q", tt.control, got, tt.want)
		}
		for _, e := range p.Elsewhere {
			if strings.Contains(tt.control, " at ") && e.Socket+e.PIDFile+e.FIFO != "" ||
				strings.Contains(tt.control, " settings ") && e.Settings != "" ||
				strings.Contains(tt.control, " fifo ") && e.Socket != "" && e.FIFO != "/z/ha" {
				t.Errorf("control %s: it is looked for at %+v, too", tt.control, e)
			}
		}
	}
}

// asked notes which daemons a driver deals with.
type asked struct {
	mu  sync.Mutex
	all map[keying.Daemon]bool
}

func (a *asked) note(d keying.Daemon) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all[d] = true
	return keying.ErrNotRunning
}
func (a *asked) Running(_ context.Context, d keying.Daemon) error          { return a.note(d) }
func (a *asked) Dial(_ context.Context, d keying.Daemon) (net.Conn, error) { return nil, a.note(d) }
func (a *asked) Tell(_ context.Context, d keying.Daemon, _ string) error   { return a.note(d) }
func (a *asked) Kill(_ context.Context, d keying.Daemon) error             { return a.note(d) }
func (a *asked) Start(_ context.Context, d keying.Daemon) error            { return a.note(d) }
func (a *asked) Unit(_ context.Context, d keying.Daemon) (map[string]string, error) {
	return nil, a.note(d)
}
func (a *asked) Control(_ context.Context, d keying.Daemon, _ keying.Verb) (string, error) {
	return "", a.note(d)
}
func (a *asked) Hook(context.Context, keying.Order) error { return nil }

// TestRulesCoverDrivers: whatever a driver asks for is allowed by the keyword
// that selects it, and nothing else is.
func TestRulesCoverDrivers(t *testing.T) {
	for _, k := range []conf.ControlKind{conf.ControlAuto, conf.ControlNone, conf.ControlIsakmpd, conf.ControlIked,
		conf.ControlAll,
		conf.ControlStrongswan, conf.ControlStrongswanHA, conf.ControlLibreswan, conf.ControlExec} {
		a := &asked{all: make(map[keying.Daemon]bool)}
		d, err := driverOf(k, "outside", a, noSources{})
		if err != nil {
			t.Fatal(err)
		}
		may := daemonsOf(k)
		if d != nil {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			vips := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
			_, _ = d.Probe(ctx, vips)
			_ = d.Passive(ctx, keying.PassiveOrder{Settled: true})
			_ = d.Active(ctx, keying.Plan{VIPs: vips}, nil)
			if w := d.Watch(ctx); w != nil {
				for range w {
				}
			}
			cancel()
		}
		for d := range a.all {
			if !slices.Contains(may, d) {
				t.Errorf("control %s asks for %s, which is refused", k, d)
			}
		}
		if k != conf.ControlAuto && len(a.all) != len(may) {
			t.Errorf("control %s may deal with %v and deals with %v", k, may, a.all)
		}
	}
}

// TestForeignConfigurationIsNotFollowed: control auto with a file of the
// daemon's own user works as far as that user's rights go.
func TestForeignConfigurationIsNotFollowed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of others can be made by root only")
	}
	path := filepath.Join(t.TempDir(), "sasyncd.conf")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &conf.Sasyncd{File: path, Groups: []conf.SyncGroup{{Control: conf.Control{Kind: conf.ControlAuto}}}}
	h := &privilegedLink{client: privsep.NewLazyClient(nil)}
	log := slog.New(slog.DiscardHandler)
	if p := h.privileged(c, log); p != keying.Privileged(h.client) {
		t.Errorf("root's file leads to %T", p)
	}
	if err := os.Chown(path, 990, 0); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.privileged(c, log).(*keying.Local); !ok {
		t.Error("the other process is to follow a file that is not root's")
	}
}

// noSources are source routes that go nowhere.
type noSources struct{}

func (noSources) Prefer(remote, source netip.Addr) error { return nil }
func (noSources) Forget() error                          { return nil }
