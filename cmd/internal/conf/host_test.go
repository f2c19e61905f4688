package conf

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const hostCarpd = `group ipsec { require sasyncd }
carp outside { carpdev eth0; vhid 10; pass "love-and-peace"; address 192.0.2.1; group ipsec }
carp inside { carpdev eth11; vhid 11; pass "love-and-peace"; address 10.1.0.1; group ipsec }
track link eth2 group ipsec demote 10
`

const hostSasyncd = "peer 10.9.0.2\nsharedkey " + hexKey + "\n"

func texts(list []Error) (out []string) {
	for _, e := range list {
		out = append(out, e.Error())
	}
	return out
}

// TestAbsent: an interface that the machine does not have is named with its place, and
// with the one that was probably meant.
func TestAbsent(t *testing.T) {
	c, err := ParseCarpd("carpd.conf", []byte(hostCarpd))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"carpd.conf:3:1: instance inside: there is no interface eth11 on this machine, did you mean eth1?",
		"carpd.conf:4:1: track link: there is no interface eth2 on this machine, did you mean eth0?"}
	if got := texts(c.Absent([]string{"lo", "eth0", "eth1"})); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := texts(c.Absent([]string{"eth0", "eth11", "eth2"})); got != nil {
		t.Errorf("all are there, and it says %q", got)
	}
	if got := texts(c.Absent(nil)); got != nil {
		t.Errorf("nothing is known, and it says %q", got)
	}
	for text, want := range map[string]string{
		"interface outside\nlisten on em0\n": "s:2:1: listen on: there is no interface em0 on this machine, ip link " +
			"shows those that there are",
		"interface ppp0\nvip 192.0.2.1\ntracker link\n": "s:1:1: tracker link: there is no interface ppp0",
		"interface outside\nlisten on lo\n":             "",
		"interface outside\nlisten on 192.0.2.9\n":      "",
	} {
		s, err := ParseSasyncd("s", []byte(text+hostSasyncd))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(texts(s.Absent([]string{"lo", "eth0"})), "\n")
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q: says %q, want %q", text, got, want)
		}
	}
}

// TestUnmatched: what sasyncd.conf names and carpd.conf does not have.
func TestUnmatched(t *testing.T) {
	c, err := ParseCarpd("/etc/carpd.conf", []byte(hostCarpd))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"interface outside\n":              "",
		"interface outside\ngroup ipsec\n": "",
		"interface outsdie\n": "s:1:1: interface outsdie is no instance of /etc/carpd.conf, did you mean " +
			"outside?",
		"interface wan\n": "s:1:1: interface wan is no instance of /etc/carpd.conf, write a carp or vrrp block of that " +
			"name there",
		"interface ipsec\n": "s:1:1: interface ipsec is a group of /etc/carpd.conf, write one of its instances: outside, " +
			"inside",
		"interface outside\ngroup ispec\n": "s:1:1: group ispec of interface outside is no group of /etc/carpd.conf, did " +
			"you mean ipsec?",
		"interface outside\ncarpd socket \"/run/c\"\n": "s: carpd is looked for at /run/c, and /etc/carpd.conf has the " +
			"socket /run/carpd/control.sock, write carpd socket \"/run/carpd/control.sock\"",
		"interface wan\nvip 192.0.2.1\ntracker link\n": "",
		"mode master\ninterface wan\n":                 "",
	} {
		s, err := ParseSasyncd("s", []byte(text+hostSasyncd))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(texts(s.Unmatched(c)), "\n"); got != want {
			t.Errorf("%q: says %q, want %q", text, got, want)
		}
	}
}

// TestBeside: the other file is found in the same directory; what is none, or is wrong,
// is as if it were not there.
func TestBeside(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if CarpdBeside(path("x.conf")) != nil || SasyncdBeside(path("x.conf")) != nil {
		t.Error("there is a file that there is not")
	}
	if err := syscall.Mkfifo(path("carpd.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("sasyncd.conf"), []byte("explode\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if CarpdBeside(path("x.conf")) != nil || SasyncdBeside(path("x.conf")) != nil {
		t.Error("there is a file that is none")
	}
	if err := os.Remove(path("carpd.conf")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"carpd.conf": hostCarpd, "sasyncd.conf": "interface outside\n" +
		hostSasyncd} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, s := CarpdBeside(path("x.conf")), SasyncdBeside(path("x.conf"))
	if c == nil || s == nil || c.File != path("carpd.conf") || s.Groups[0].Interface != "outside" {
		t.Errorf("%+v, %+v", c, s)
	}
}
