package setup

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/deploy"
)

// site is two directories that stand for gateways, and stand-ins for the programs of
// a gateway. ssh runs a command in the directory of the other one.
type site struct {
	t         *testing.T
	own, peer string
	out, errs bytes.Buffer
	stdin     string
	terminal  bool
}

func newSite(t *testing.T) *site {
	s := &site{t: t, own: t.TempDir(), peer: t.TempDir()}
	bin := t.TempDir()
	note := "echo \"$(basename \"$0\") $*\" >>log\n"
	for name, script := range map[string]string{
		"ssh": "test \"$1\" = root@10.9.0.2 || exit 255\ncd \"$PEER_DIR\" && exec sh -c \"$2\"\n",
		// What the daemons would refuse is that the file is not there, or not theirs alone.
		"carpd":     note + "test \"$(stat -c %a etc/carpd.conf)\" = 600 && echo configuration OK\n",
		"sasyncd":   note + "test \"$(stat -c %a etc/sasyncd.conf etc/sasyncd.key | uniq)\" = 600 && echo configuration OK\n",
		"systemctl": note,
		"sasyncctl": note + "echo a failover would work\n",
		"ip":        "echo \"1: link inet $5/24\"\n", // ip -o address show to ADDRESS
		"id":        "case $1 in -u) echo 0;; *) exit 0;; esac\n",
		"chown":     note,
	} {
		put(t, filepath.Join(bin, name), "#!/bin/sh\n"+script)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("PEER_DIR", s.peer)
	for _, dir := range []string{s.own, s.peer} {
		if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// init runs the command line of the manual, and more.
func (s *site) init(more ...string) int {
	s.out.Reset()
	s.errs.Reset()
	c := command{in: strings.NewReader(s.stdin), out: &s.out, errs: &s.errs, terminal: s.terminal, dir: "etc",
		own:     func(netip.Addr) string { return "10.9.0.1" },
		runners: func(in Input) [2]Runner { return [2]Runner{local{s.own}, remote{in.SSH}} }}
	return c.run(s.t.Context(), append([]string{"10.9.0.2"}, more...))
}

var flags = []string{"--outside", "lo", "--outside-vip", "192.0.2.1/32,2001:db8::1", "--inside", "lo", "--inside-vip",
	"10.1.0.1", "--ike", "strongswan", "--wait", "7"}

func (s *site) read(path ...string) string {
	b, _ := os.ReadFile(filepath.Join(path...))
	return string(b)
}

// files returns the names in a gateway's etc.
func (s *site) files(dir string) string {
	list, err := os.ReadDir(filepath.Join(dir, "etc"))
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, f.Name())
	}
	return strings.Join(names, " ")
}

// TestFlow: two gateways as a package leaves them become a pair.
func TestFlow(t *testing.T) {
	s := newSite(t)
	for _, dir := range []string{s.own, s.peer} {
		put(t, filepath.Join(dir, "etc/carpd.conf"), string(deploy.CarpdConf))
		put(t, filepath.Join(dir, "etc/sasyncd.conf"), string(deploy.SasyncdConf))
	}
	if code := s.init(append([]string{"--dry-run"}, flags...)...); code != daemon.ExitOK {
		t.Fatalf("dry run: code %d: %s%s", code, &s.out, &s.errs)
	}
	if names := s.files(s.own) + s.files(s.peer) + s.read(s.own, "log") + s.read(s.peer, "log"); names !=
		"carpd.conf sasyncd.confcarpd.conf sasyncd.conf" {
		t.Fatalf("a dry run has left %s", names)
	}
	if code := s.init(flags...); code != daemon.ExitOK || s.errs.String() != "" {
		t.Fatalf("code %d: %s%s", code, &s.out, &s.errs)
	}
	for _, dir := range []string{s.own, s.peer} {
		if names := s.files(dir); names != "carpd.conf carpd.conf.orig sasyncd.conf sasyncd.conf.orig sasyncd.key" {
			t.Errorf("etc has %s", names)
		}
		if s.read(dir, "etc/carpd.conf.orig") != string(deploy.CarpdConf) {
			t.Error("the file of the package has changed")
		}
		log := s.read(dir, "log")
		for _, want := range []string{"chown carpd: etc/carpd.conf.init\n", "carpd -n\nsasyncd -n\n",
			"systemctl enable --now carpd sasyncd\n"} {
			if !strings.Contains(log, want) {
				t.Errorf("lacks %q: %s", want, log)
			}
		}
		if strings.HasSuffix(log, "sasyncctl check -w 7\n") != (dir == s.own) {
			t.Errorf("check is run where it should not, or not: %s", log)
		}
	}
	if key := s.read(s.own, "etc/sasyncd.key"); key != s.read(s.peer, "etc/sasyncd.key") || strings.Contains(
		s.out.String(), strings.TrimSpace(key)) {
		t.Error("the keys differ, or one is shown")
	}
	if !strings.Contains(s.read(s.own, "etc/sasyncd.conf"), "\npeer 10.9.0.2\nlisten on 10.9.0.1\n") ||
		!strings.Contains(s.read(s.peer, "etc/sasyncd.conf"), "\npeer 10.9.0.1\nlisten on 10.9.0.2\n") {
		t.Error("the gateways do not name each other")
	}
	for _, want := range []string{"a failover would work\n", "the pair is ready. Let tunnels end on 192.0.2.1"} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &s.out)
		}
	}

	// A second time there is something to lose, on both.
	before := s.read(s.own, "etc/sasyncd.key")
	if code := s.init(flags...); code != daemon.ExitFailure || s.out.Len() > 0 {
		t.Errorf("code %d: %s", code, &s.out)
	}
	for _, who := range []string{"this gateway", "root@10.9.0.2"} {
		for _, name := range []string{"carpd.conf", "sasyncd.conf", "sasyncd.key"} {
			if !strings.Contains(s.errs.String(), who+": etc/"+name+" exists, and nothing is overwritten") {
				t.Errorf("does not say %s of %s: %s", name, who, &s.errs)
			}
		}
	}
	if s.read(s.own, "etc/sasyncd.key") != before {
		t.Error("the key was overwritten")
	}
}

// TestFlowRefuses: one file on the peer, even a link that leads nowhere, or an interface
// that is not there, is enough, and nothing is written on either side.
func TestFlowRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(s *site) error
		more    []string
		want    string
	}{
		"file": {func(s *site) error {
			return os.WriteFile(filepath.Join(s.peer, "etc/sasyncd.key"), nil, 0o600)
		}, nil, "root@10.9.0.2: etc/sasyncd.key exists"},
		"link": {func(s *site) error {
			return os.Symlink("nowhere", filepath.Join(s.peer, "etc/carpd.conf"))
		}, nil, "root@10.9.0.2: etc/carpd.conf exists"},
		"interface": {func(*site) error { return nil }, []string{"--peer-inside", "nosuch0"},
			"root@10.9.0.2: there is no interface nosuch0"},
		"no ssh": {func(*site) error { return nil }, []string{"--ssh", "gw3"}, "gw3: it cannot be looked at"},
		"static keys": {func(*site) error { return nil }, []string{"--ike", "static"},
			"this gateway: there is no file /etc/sasyncd/ipsec.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			if err := tt.prepare(s); err != nil {
				t.Fatal(err)
			}
			before := s.files(s.peer)
			code := s.init(append(append([]string{}, flags...), tt.more...)...)
			if code != daemon.ExitFailure || !strings.Contains(s.errs.String(), tt.want) || !strings.Contains(
				s.errs.String(), "nothing was changed") {
				t.Errorf("code %d: %s%s", code, &s.out, &s.errs)
			}
			if s.files(s.own) != "" || s.files(s.peer) != before || s.read(s.own, "log")+s.read(s.peer, "log") != "" {
				t.Errorf("%s and %s were written", s.files(s.own), s.files(s.peer))
			}
		})
	}
}

// TestFlowBroken: the peer breaks between its files; the commands that are said to be
// left, typed as they are, complete the pair.
func TestFlowBroken(t *testing.T) {
	s := newSite(t)
	broken := filepath.Join(s.peer, "etc/carpd.conf.init")
	if err := os.MkdirAll(filepath.Join(broken, "x"), 0o755); err != nil { // rm and cat fail
		t.Fatal(err)
	}
	if code := s.init(flags...); code != daemon.ExitFailure {
		t.Fatalf("code %d: %s", code, &s.out)
	}
	said := s.errs.String()
	for _, want := range []string{"root@10.9.0.2: write etc/carpd.conf: exit status 1\n",
		"what was done:\n  this gateway: write etc/sasyncd.key\n", "  root@10.9.0.2: write etc/sasyncd.key\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("lacks %q:\n%s", want, said)
		}
	}
	if s.files(s.peer) != "carpd.conf.init sasyncd.key" {
		t.Errorf("the peer has %s", s.files(s.peer))
	}
	if err := os.RemoveAll(broken); err != nil {
		t.Fatal(err)
	}
	_, left, ok := strings.Cut(said, "that failed:\n")
	if !ok {
		t.Fatal(said)
	}
	var out bytes.Buffer
	if err := (local{s.own}).Run(t.Context(), "set -e\n"+left, nil, &out); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	if s.files(s.peer) != "carpd.conf sasyncd.conf sasyncd.key" || !strings.Contains(s.read(s.peer, "etc/carpd.conf"),
		"advskew 80") || !strings.HasSuffix(s.read(s.own, "log"), "sasyncctl check -w 7\n") {
		t.Errorf("the peer has %s; here ran %s", s.files(s.peer), s.read(s.own, "log"))
	}
}

// TestQuestions: on a terminal what is missing is asked, a wrong answer again, and one
// that says no to all of it changes nothing. Without a terminal the flags are named.
func TestQuestions(t *testing.T) {
	s := newSite(t)
	if code := s.init("--inside", "lo"); code != daemon.ExitUsage || !strings.Contains(s.errs.String(),
		"missing: --outside --outside-vip --inside-vip --ike\n") {
		t.Errorf("code %d: %s", code, &s.errs)
	}
	s.terminal = true
	// own, outside, its addresses (twice), its vhid, inside's addresses and vhid, IKE (twice), ssh
	answers := "\nlo\n192.0.2\n192.0.2.1\n\n10.1.0.1\n12\nstrongswann\nstrongswan\n\n"
	s.stdin = answers + "n\n"
	if code := s.init("--inside", "lo"); code != daemon.ExitFailure || s.files(s.own)+s.files(s.peer) != "" {
		t.Errorf("code %d, wrote %s: %s", code, s.files(s.own), &s.errs)
	}
	for _, want := range []string{"address of this gateway on the sync link [10.9.0.1]: ",
		"\"192.0.2\" is not an address", "vhid inside [11]: ", "did you mean strongswan?",
		"ssh destination of the peer [root@10.9.0.2]: ", "? y or n [n]: "} {
		if !strings.Contains(s.errs.String(), want) {
			t.Errorf("does not ask %q:\n%s", want, &s.errs)
		}
	}
	s.stdin = answers + "y\n"
	if code := s.init("--inside", "lo"); code != daemon.ExitOK || !strings.Contains(s.read(s.own, "etc/carpd.conf"),
		"vhid 12\n") {
		t.Errorf("code %d: %s%s", code, &s.out, &s.errs)
	}
	// An end of the answers is no answer.
	s.stdin = ""
	if code := s.init(); code != daemon.ExitUsage {
		t.Errorf("code %d: %s", code, &s.errs)
	}
}

// TestCommandLine: what is wrong with it is said with the usage; help goes to standard
// output, and its example is a command line that works.
func TestCommandLine(t *testing.T) {
	s := newSite(t)
	for want, line := range map[string][]string{
		"name one peer":             {"10.9.0.3"},
		"unknown flag: --insite":    {"--insite", "lo"},
		"--outside: \"a b\" is not": append([]string{"--outside", "a b"}, flags[2:]...),
		"--wait: \"-1\" is not":     append(append([]string{}, flags...), "--wait", "-1"),
		"--ike: \"racoon\" is no":   append(append([]string{}, flags...), "--ike", "racoon"),
	} {
		if code := s.init(line...); code != daemon.ExitUsage || !strings.Contains(s.errs.String(), want) ||
			!strings.Contains(s.errs.String(), "usage: sasyncctl init") || s.out.Len() > 0 {
			t.Errorf("%q: code %d: %s%s", line, code, &s.out, &s.errs)
		}
	}
	if code := s.init("-h"); code != daemon.ExitOK || s.errs.Len() > 0 {
		t.Errorf("-h: code %d: %s", code, &s.errs)
	}
	for _, f := range Flags() {
		if f != "--help" && !strings.Contains(s.out.String(), f) {
			t.Errorf("-h does not explain %s", f)
		}
	}
	example := strings.Fields(strings.ReplaceAll(Help.Example, "\\\n", ""))
	for i, w := range example {
		if strings.HasPrefix(w, "eth") {
			example[i] = "lo"
		}
	}
	if example[0] != "init" || example[1] != "10.9.0.2" {
		t.Fatalf("the example is %q", example)
	}
	if code := s.init(append(example[2:], "--dry-run")...); code != daemon.ExitOK {
		t.Errorf("the example: code %d: %s", code, &s.errs)
	}
}
