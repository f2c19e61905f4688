package keying

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlaces: each distribution's IKE daemon is found where it keeps it, and where two
// have left something, the usual place counts.
func TestPlaces(t *testing.T) {
	for _, tt := range []struct {
		name     string
		have     []string
		d        Daemon
		at       string
		fifo     string
		settings string
	}{
		{"strongSwan of Debian, Ubuntu, Arch Linux and Alpine", []string{"run/charon.vici", "run/charon.ha",
			"etc/swanctl/swanctl.conf"}, StrongSwan, "run/charon.vici", "run/charon.ha", "etc/swanctl/swanctl.conf"},
		{"strongSwan of Fedora and RHEL", []string{"run/strongswan/charon.vici", "run/strongswan/charon.ha",
			"etc/strongswan/swanctl/swanctl.conf"}, StrongSwan, "run/strongswan/charon.vici", "run/strongswan/charon.ha",
			"etc/strongswan/swanctl/swanctl.conf"},
		{"strongSwan of the sources", []string{"run/charon.vici", "usr/local/etc/swanctl/swanctl.conf"}, StrongSwan,
			"run/charon.vici", "run/charon.ha", "usr/local/etc/swanctl/swanctl.conf"},
		{"a socket of Debian's, settings of Fedora's", []string{"run/charon.vici", "etc/strongswan/swanctl/swanctl.conf"},
			StrongSwan, "run/charon.vici", "run/charon.ha", "etc/strongswan/swanctl/swanctl.conf"},
		{"two of them", []string{"run/charon.vici", "run/strongswan/charon.vici"}, StrongSwan, "run/charon.vici",
			"run/charon.ha", "etc/swanctl/swanctl.conf"},
		{"none", nil, StrongSwan, "run/charon.vici", "run/charon.ha", "etc/swanctl/swanctl.conf"},
		{"libreswan everywhere", []string{"run/pluto/pluto.pid"}, Libreswan, "run/pluto/pluto.pid", "", ""},
		{"OpenIKED everywhere", []string{"run/iked.sock"}, OpenIKED, "run/iked.sock", "", ""},
		{"isakmpd", []string{"run/isakmpd.fifo"}, ISAKMPD, "run/isakmpd.fifo", "run/isakmpd.fifo", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for _, f := range tt.have {
				path := filepath.Join(root, f)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			p, err := (&Local{Places: PlacesBelow(root)}).place(tt.d)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct{ what, got, want string }{{"file", p.at(), tt.at}, {"FIFO", p.FIFO, tt.fifo},
				{"settings", p.Settings, tt.settings}} {
				if got := strings.TrimPrefix(c.got, root+"/"); got != c.want {
					t.Errorf("its %s is %q, want %q", c.what, got, c.want)
				}
			}
		})
	}
}

// TestPlaceIsTold: who is found is told, with where; who is not is told with all places
// that were looked at.
func TestPlaceIsTold(t *testing.T) {
	root := t.TempDir()
	l := &Local{Places: PlacesBelow(root)}
	var told []string
	l.Found = func(d Daemon, path string) { told = append(told, string(d)+" "+strings.TrimPrefix(path, root)) }
	_, err := l.Dial(t.Context(), StrongSwan)
	for _, place := range []string{"/run/charon.vici", "/run/strongswan/charon.vici"} {
		if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), root+place) {
			t.Errorf("%v does not say that it was looked for at %s", err, place)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "run/strongswan"), 0o755); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(root, "run/strongswan/charon.vici"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := l.Dial(t.Context(), StrongSwan)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if got := strings.Join(told, ", "); got != "strongswan /run/strongswan/charon.vici" {
		t.Errorf("told is %q", got)
	}
}
