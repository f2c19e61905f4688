package conf

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // regardless of the umask
		t.Fatal(err)
	}
	return path
}

const hexKey = "0x349fec85c11f6b658d5c457d4668e035f11dfdccb849d5053a8763787b74db70"

func TestLoadSasyncdReadsKeyFiles(t *testing.T) {
	key := write(t, "key", hexKey+"\n", 0o600)
	old := write(t, "old", "sixteen-letters!", 0o600)
	path := write(t, "sasyncd.conf", fmt.Sprintf("interface carp1\npeer 10.0.0.2\nsharedkey file %q\nsharedkey "+
		"file %q\n", key, old), 0o640)
	c, err := LoadSasyncd(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Keys) != 2 || c.Keys[0].Secret.Len() != 32 || c.Keys[0].Text ||
		string(c.Keys[1].Secret.Bytes()) != "sixteen-letters!" || !c.Keys[1].Text {
		t.Errorf("keys are %+v", c.Keys)
	}
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("sharedkey file %q # 32 bytes\n", key); !strings.Contains(b.String(), want) {
		t.Errorf("printed form lacks %q:\n%s", want, b.String())
	}
}

func TestLoadRefusals(t *testing.T) {
	const base = "interface carp1\npeer 10.0.0.2\n"
	good := write(t, "good", hexKey, 0o600)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, want string }{
		{"missing", "/nonexistent/sasyncd.conf", "it does not exist"},
		{"directory", t.TempDir(), "not a regular file"},
		{"fifo", fifo, "not a regular file"},
		{"others may read", write(t, "c", base+"sharedkey file \""+good+"\"", 0o644),
			"its mode 0644 gives access to others"},
		{"group may write", write(t, "c", base+"sharedkey file \""+good+"\"", 0o660),
			"its mode 0660 gives access to others"},
		{"group may read a key", write(t, "c", base+"sharedkey "+hexKey, 0o640),
			":3:11: a key stands in a file whose mode 0640"},
		{"group may read a key file", write(t, "c", base+"sharedkey file \""+write(t, "k", hexKey, 0o640)+"\"", 0o600),
			"a key stands in a file"},
		{"no key file", write(t, "c", base+"sharedkey file \"/nonexistent/key\"", 0o600),
			"/nonexistent/key: it does not exist"},
		{"key file of two lines", write(t, "c", base+"sharedkey file \""+write(t, "k", hexKey+"\nmore\n", 0o600)+"\"",
			0o600), "not a line of text"},
		{"bad key file", write(t, "c", base+"sharedkey file \""+write(t, "k", hexKey[2:], 0o600)+"\"", 0o600),
			"without 0x"},
		{"same key twice", write(t, "c", base+"sharedkey "+hexKey+"\nsharedkey file \""+good+"\"", 0o600),
			":4:1: the key is the same as that of line 3"},
		{"too large", write(t, "c", strings.Repeat("#", 1<<20+1), 0o600), "larger than 1 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadSasyncd(tt.path)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is %v, want one with %q", err, tt.want)
			}
			if !IsConfig(err) {
				t.Errorf("%v is not a configuration error", err)
			}
			if strings.Contains(err.Error(), hexKey[2:]) {
				t.Errorf("the key is in the error: %v", err)
			}
		})
	}
}

func TestFileOwner(t *testing.T) {
	for _, tt := range []struct {
		mode        fs.FileMode
		owner, self int
		ok          bool
	}{
		{0o600, 0, 0, true},
		{0o600, 0, 1000, true},
		{0o640, 0, 1000, true},
		{0o400, 1000, 1000, true},
		{0o600, 1000, 0, false},
		{0o600, 1001, 1000, false},
		{0o604, 0, 0, false},
		{0o620, 0, 0, false},
		{fs.ModeDevice | 0o600, 0, 0, false},
		{fs.ModeNamedPipe | 0o600, 0, 0, false},
	} {
		problem, _ := fileProblem(tt.mode, tt.owner, tt.self)
		if (problem == "") != tt.ok {
			t.Errorf("file of mode %v and user %d read by user %d: %q", tt.mode, tt.owner, tt.self, problem)
		}
	}
}

func TestLoadCarpd(t *testing.T) {
	path := write(t, "carpd.conf", "vrrp v { carpdev eth0 vrid 1 address 10.0.0.1 }", 0o640)
	c, err := LoadCarpd(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Groups) != 1 || c.Groups[0].Name != DefaultGroup || c.Groups[0].AloneAfter != 10*time.Second {
		t.Errorf("groups are %+v", c.Groups)
	}
}

// TestSecretsStayOut prints everything that can be printed of files with
// secrets, accepted and refused, and looks for pieces of them.
func TestSecretsStayOut(t *testing.T) {
	secrets := []string{"mekmitasdigoat", "349fec85", "SIXTEENletters!!", "1011121314",
		"battery", "geheim", "morewords"}
	look := func(where, text string) {
		t.Helper()
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s contains %q:\n%s", where, s, text)
			}
		}
	}
	for name, src := range map[string]string{
		"carpd-1":   `carp c { carpdev eth0 vhid 1 address 10.0.0.1 pass "mekmitasdigoat" key 1 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f }`,
		"carpd-2":   `carp c { carpdev eth0 vhid 1 address 10.0.0.1 pass correct horse battery }`,
		"carpd-3":   `vrrp v { carpdev eth0 vrid 1 version 2 address 10.0.0.1 pass geheimgeheim }`,
		"carpd-4":   `vrrp v { passs "mekmitasdigoat"  key 1 SIXTEENletters!! }`,
		"sasyncd-1": "interface carp1\nsharedkey " + hexKey + "\nsharedkey SIXTEENletters!!",
		"sasyncd-2": "sharedkey " + hexKey[:63],
		"sasyncd-3": "sharedkye " + hexKey + "\n\"SIXTEENletters!!\"\n" + hexKey,
		"sasyncd-4": "sharedkey SIXTEENletters!! morewords",
		"sasyncd-5": "sharedkey SIXTEENletters!!" + "tail",
		"sasyncd-6": "sharedkey \"SIXTEENletters!!",
		"sasyncd-7": "sharedkey file SIXTEENletters!!",
	} {
		c, warnings, err := parseAny(name, []byte(src), true)
		if err != nil {
			if name != "sasyncd-7" { // says which path is not absolute
				look(name+": error", err.Error())
			}
			continue
		}
		look(name+": normal form", c.text(false))
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
			look(name+": "+verb, fmt.Sprintf(verb, c))
		}
		j, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		look(name+": JSON", string(j))
		look(name+": warnings", fmt.Sprint(warnings))
	}
}

// TestTable checks that every keyword of the table is read by the parser, and
// that each that has no effect is refused with a word about that.
func TestTable(t *testing.T) {
	heads := map[string]string{
		"group": "group g { %s }", "carp": "carp c { %s }", "vrrp": "vrrp v { %s }", "track": "%s",
	}
	for kind, table := range map[string][]Keyword{"sasyncd": SasyncdKeywords(), "carpd": CarpdKeywords()} {
		for _, k := range table {
			first, rest, nested := strings.Cut(k.Path, " ")
			src := k.Path
			if f := heads[first]; kind == "carpd" && nested && first != "track" {
				src = fmt.Sprintf(f, rest)
			}
			_, _, err := parseAny(kind, []byte(src), true)
			if err == nil {
				continue
			}
			for _, phrase := range []string{"is not a keyword", "is not a value", "no effect"} {
				if strings.Contains(err.Error(), phrase) {
					t.Errorf("%s of %s is in the table but: %v", k.Path, kind, err)
				}
			}
			_, _, err = parseAny(kind, []byte(src), false)
			refused := err != nil && strings.Contains(err.Error(), "has no effect")
			if refused == k.Supported {
				t.Errorf("%s of %s: supported is %v, error %v", k.Path, kind, k.Supported, err)
			}
		}
	}
}

func TestRouters(t *testing.T) {
	c, err := ParseCarpd("carpd.conf", []byte(`vrrp v { carpdev eth0 vrid 10 address 10.0.0.1/24 address 2001:db8::1 address 10.0.0.2 unicast { 10.0.0.8 2001:db8::8 10.0.0.9 } }
		vrrp w { carpdev eth1 vrid 11 address 2001:db8:1::1/64 address fe80::5 }`))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.Instances[0].Routers(), c.Instances[1].Routers())
	want := "[{false [10.0.0.1/24 10.0.0.2/32] [10.0.0.8 10.0.0.9]} {true [fe80::200:5eff:fe00:20a/128 " +
		"2001:db8::1/128] [2001:db8::8]}]" +
		" [{true [fe80::5/128 2001:db8:1::1/64] []}]"
	if got != want {
		t.Errorf("routers are\n%s, want\n%s", got, want)
	}
	if d := c.Instances[0].Detection(); d != 750*time.Millisecond {
		t.Errorf("detection is %s, want 750ms", d)
	}
}

// TestOpenBSDMeaning holds the values that OpenBSD's file implies.
func TestOpenBSDMeaning(t *testing.T) {
	src, err := os.ReadFile("testdata/good/sasyncd-one-line.conf")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseSasyncd("sasyncd.conf", src)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case c.Groups[0].Interface != "carp0" || len(c.Groups) != 1:
		t.Errorf("groups are %+v", c.Groups)
	case len(c.Peers) != 2 || c.Peers[0].Port != 501 || c.Peers[1].Hosts[0].Addr != netip.MustParseAddr("10.0.0.3"):
		t.Errorf("peers are %+v: without a port of their own they have that of listen on", c.Peers)
	case c.Listen[0].Interface != "em0" || c.Listen[0].Family != FamilyIPv6 || c.Listen[0].Port != 501:
		t.Errorf("listen is %+v", c.Listen)
	case !c.SkipSlave || c.Lock != LockNone || c.FlushMode != FlushStartup:
		t.Errorf("modes are %v %v %v", c.SkipSlave, c.Lock, c.FlushMode)
	case string(c.Keys[0].Secret.Bytes()) != "mekmitasdigoat;{":
		t.Error("a key may contain what is punctuation in carpd.conf, and # ends it")
	}
}
