package tracker

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"log/slog"

	"sasyncd/kernel/link"
)

// patience is how long something may take that has to happen.
const patience = 10 * time.Second

// node is a kernel's interfaces as a test sets them.
type node struct {
	mu      sync.Mutex
	links   []link.Link
	addrs   []link.Address
	changed chan struct{}
}

func newNode() *node { return &node{changed: make(chan struct{}, 1)} }

func (n *node) Links(context.Context) ([]link.Link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.links), nil
}

func (n *node) Addrs(context.Context) ([]link.Address, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.addrs), nil
}

func (n *node) Watch(context.Context) (<-chan struct{}, error) { return n.changed, nil }

// set changes what is there: an interface eth0 with these addresses.
func (n *node) set(up bool, flags uint32, addrs ...netip.Addr) {
	n.mu.Lock()
	n.links = []link.Link{{Index: 1, Name: "lo", Up: true, Loopback: true}, {Index: 2, Name: "eth0", Up: up}}
	n.addrs = nil
	for _, a := range addrs {
		n.addrs = append(n.addrs, link.Address{Prefix: netip.PrefixFrom(a, a.BitLen()), Link: 2, Flags: flags})
	}
	n.mu.Unlock()
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

var (
	vip4 = netip.MustParseAddr("192.0.2.1")
	vip6 = netip.MustParseAddr("2001:db8::1")
)

func group(name string) []Group { return []Group{{Name: name, VIPs: []netip.Addr{vip4, vip6}}} }

// follow runs a source and returns what it says, without what it repeats.
func follow(t *testing.T, s Source) <-chan Observation {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, done := make(chan Observation, 100), make(chan struct{})
	var last *Observation
	go func() {
		defer close(done)
		if err := s.Follow(ctx, func(_ string, s Observation) {
			if last == nil || *last != s {
				last = &s
				out <- s
			}
		}); ctx.Err() == nil {
			t.Errorf("the source ended: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return out
}

// want waits until the source says that the node is master or not, and returns
// the reason.
func want(t *testing.T, ch <-chan Observation, master bool) Observation {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case s := <-ch:
			if s.Master == master {
				return s
			}
		case <-limit:
			t.Fatalf("never master %v", master)
		}
	}
}

func TestAddress(t *testing.T) {
	n := newNode()
	n.set(true, 0)
	ch := follow(t, NewAddress(n, group("any")))
	if s := want(t, ch, false); !strings.Contains(s.Reason, vip4.String()) || !strings.Contains(s.Reason,
		vip6.String()) {
		t.Errorf("reason %q, want the missing addresses", s.Reason)
	}
	n.set(true, 0, vip4, vip6)
	want(t, ch, true)
	n.set(true, 0, vip6) // one is not all
	if s := want(t, ch, false); strings.Contains(s.Reason, vip6.String()) {
		t.Errorf("reason %q names an address that is there", s.Reason)
	}
	n.set(true, 0, vip4, vip6)
	want(t, ch, true)
	n.set(true, unix.IFA_F_TENTATIVE, vip4, vip6) // cannot be used yet
	want(t, ch, false)
	n.set(true, unix.IFA_F_PERMANENT, vip4, vip6)
	want(t, ch, true)
	n.set(false, 0, vip4, vip6) // nor on an interface that is down
	want(t, ch, false)
}

func TestLink(t *testing.T) {
	n := newNode()
	n.set(false, 0)
	ch := follow(t, NewLink(n, group("eth0")))
	want(t, ch, false)
	n.set(true, 0)
	want(t, ch, true)
	n.set(false, 0)
	want(t, ch, false)

	if s := want(t, follow(t, NewLink(n, group("eth9"))), false); !strings.Contains(s.Reason, "does not exist") {
		t.Errorf("reason %q", s.Reason)
	}
}

// writer opens the pipe as keepalived does and returns how to write a line.
func writer(t *testing.T, path string) (say func(string), end func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() { f.Close() })
	t.Cleanup(end)
	return func(line string) {
		t.Helper()
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}, end
}

func awaitFIFO(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if st, err := os.Stat(path); err == nil {
			if st.Mode() != os.ModeNamedPipe|0o600 {
				t.Errorf("mode %v, want a fifo with 0600", st.Mode())
			}
			return
		}
		if time.Now().After(end) {
			t.Fatal("no fifo was made")
		}
	}
}

func keepalivedSource(path string, n *node, name string) Source {
	return NewKeepalived(path, n, group(name), slog.New(slog.DiscardHandler))
}

func TestKeepalivedLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	n := newNode()
	n.set(true, 0, vip4, vip6) // of somebody else
	ch := follow(t, keepalivedSource(path, n, "VI_1"))
	want(t, ch, false) // nobody has said anything
	awaitFIFO(t, path)
	say, end := writer(t, path)
	say("INSTANCE \"VI_1\" BACKUP 100\n")
	want(t, ch, false)
	say("INSTANCE \"VI_2\" BACKUP 100\nGROUP \"G\" FAULT 0\nVS [192.0.2.9]:tcp:80 UP\nINSTANCE \"VI_1\" MAS")
	say("TER 200\n")
	want(t, ch, true)
	say("nonsense\nINSTANCE \"VI_1\" MASTER_PRIORITY 150\nINSTANCE \"VI_1\" FAULT 150\n")
	if s := want(t, ch, false); !strings.Contains(s.Reason, "FAULT") || s.Standing != StandingUnable {
		t.Errorf("%+v, want a fault", s)
	}
	say("INSTANCE \"VI_1\" MASTER 200\n")
	want(t, ch, true)
	end() // killed: it leaves its addresses behind
	if s := want(t, ch, false); !strings.Contains(s.Reason, "not there") {
		t.Errorf("reason %q", s.Reason)
	}

	// Another keepalived removes the pipe and makes its own; its first words count.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	awaitFIFO(t, path)
	say, _ = writer(t, path)
	say("INSTANCE \"VI_1\" MASTER 200\n")
	want(t, ch, true)
}

// A sync group is followed by its name.
func TestKeepalivedGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	ch := follow(t, keepalivedSource(path, newNode(), "G"))
	awaitFIFO(t, path)
	say, _ := writer(t, path)
	say("GROUP \"G\" MASTER 0\n")
	want(t, ch, true)
	say("GROUP \"G\" STOP 0\n")
	want(t, ch, false)
}

// A reload closes the pipe for a moment, which is no change of state.
func TestKeepalivedReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	ch := follow(t, keepalivedSource(path, newNode(), "VI_1"))
	awaitFIFO(t, path)
	say, end := writer(t, path)
	say("INSTANCE \"VI_1\" MASTER 200\n")
	want(t, ch, true)
	end()
	say, _ = writer(t, path)
	say("INSTANCE \"VI_2\" BACKUP 1\nINSTANCE \"VI_1\" FAULT 1\n")
	if s := want(t, ch, false); !strings.Contains(s.Reason, "FAULT") {
		t.Errorf("reason %q: closing for a moment was taken for an end", s.Reason)
	}
}

// A sasyncd that comes after keepalived finds no line; the addresses tell.
func TestKeepalivedWasThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	say, _ := writer(t, path)
	n := newNode()
	n.set(true, 0, vip4, vip6)
	ch := follow(t, keepalivedSource(path, n, "VI_1"))
	want(t, ch, true)
	say("INSTANCE \"VI_1\" BACKUP 200\n") // its word is worth more
	want(t, ch, false)
}

// What others could write into, or is no pipe, is refused.
func TestUnsafeFIFO(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, make := range map[string]func(string) error{
		"open to others": func(p string) error {
			if err := unix.Mkfifo(p, 0o600); err != nil {
				return err
			}
			return os.Chmod(p, 0o622)
		},
		"a file": func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"a link": func(p string) error {
			if err := unix.Mkfifo(p+".real", 0o600); err != nil {
				return err
			}
			return os.Symlink(p+".real", p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := path(strings.ReplaceAll(name, " ", "-"))
			if err := make(p); err != nil {
				t.Fatal(err)
			}
			err := keepalivedSource(p, newNode(), "x").Follow(t.Context(),
				func(string, Observation) { t.Error("followed") })
			if err == nil || !strings.Contains(err.Error(), p) {
				t.Errorf("error %v, want one that names the file", err)
			}
		})
	}
}

// TestStanding: whether keepalived takes part in the election is seen, of what a tracker
// of addresses follows it is not.
func TestStanding(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	n := newNode()
	n.set(true, 0)
	if s := want(t, follow(t, NewAddress(n, group("any"))), false); s.Standing != StandingHidden {
		t.Errorf("addresses: %v", s.Standing)
	}
	ch := follow(t, keepalivedSource(path, n, "VI_1"))
	stands := func(standing Standing) {
		t.Helper()
		limit := time.After(patience)
		for {
			select {
			case s := <-ch:
				if s.Standing == standing {
					return
				}
			case <-limit:
				t.Fatalf("keepalived is never %v", standing)
			}
		}
	}
	stands(StandingGone)
	say, end := writer(t, path)
	for _, x := range []struct {
		line     string
		standing Standing
	}{{"BACKUP 100", StandingAble}, {"FAULT 100", StandingUnable}, {"MASTER 100", StandingAble}} {
		say("INSTANCE \"VI_1\" " + x.line + "\n")
		stands(x.standing)
	}
	end()
	stands(StandingGone)
}
