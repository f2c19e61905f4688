package setup

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sasyncd/cmd/internal/conf"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// usual is an input that is right.
func usual() Input {
	return Input{Addresses: [2]netip.Addr(addrs("10.9.0.1", "10.9.0.2")),
		Outside: Network{Devices: [2]string{"eth0", "ens1"}, VIPs: addrs("192.0.2.1", "2001:db8::1"), VHID: 10},
		Inside:  Network{Devices: [2]string{"eth1", "eth0"}, VIPs: addrs("10.1.0.1"), VHID: 11},
		IKE:     IKEStrongswan, SSH: "root@10.9.0.2", Wait: 60}
}

// parsed returns the configurations of a side as the daemons read them.
func parsed(t *testing.T, p *Plan, s Side) (*conf.Carpd, *conf.Sasyncd) {
	t.Helper()
	c, err := conf.ParseCarpd("carpd.conf", p.Files[s][1].Content.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	y, err := conf.ParseSasyncd("sasyncd.conf", p.Files[s][2].Content.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range slices.Concat(c.Warnings, y.Warnings, y.Unmatched(c)) {
		t.Errorf("%s is warned: %v", usual().called(s), w)
	}
	return c, y
}

// TestFiles: for each input the files of both sides are right, agree with each other,
// and differ in what has to differ.
func TestFiles(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*Input)
		control string
	}{
		"usual":      {func(*Input) {}, "strongswan"},
		"libreswan":  {func(in *Input) { in.IKE = IKELibreswan }, "libreswan"},
		"openiked":   {func(in *Input) { in.IKE = IKEOpeniked }, "iked"},
		"none":       {func(in *Input) { in.IKE = IKENone }, "none"},
		"static":     {func(in *Input) { in.IKE, in.Static = IKEStatic, "/etc/sasyncd/ipsec.conf" }, "static"},
		"IPv6 alone": {func(in *Input) { in.Addresses = [2]netip.Addr(addrs("fd00::1", "fd00::2")) }, "strongswan"},
	} {
		t.Run(name, func(t *testing.T) {
			in := usual()
			tt.change(&in)
			secrets := NewSecrets()
			p, err := New(in, secrets, "/etc", [2]Found{})
			if err != nil {
				t.Fatal(err)
			}
			var skews [2]uint8
			for _, s := range []Side{Own, Peer} {
				c, y := parsed(t, p, s)
				if len(c.Instances) != 2 || len(c.Groups) != 1 || !c.Groups[0].RequireSasyncd {
					t.Fatalf("carpd.conf is %+v", c)
				}
				for i, n := range in.networks() {
					x := c.Instances[i]
					var vips []netip.Addr
					for _, a := range x.Addresses {
						vips = append(vips, a.Addr())
					}
					if x.Name != n.name || x.Device != n.Devices[s] || int(x.CARP.VHID) != n.VHID || x.Group != group ||
						!slices.Equal(vips, n.VIPs) || !x.CARP.Pass.Equal(secrets.Pass) {
						t.Errorf("instance is %+v, want %+v", x, n)
					}
					skews[s] = x.CARP.AdvSkew
				}
				if y.Peers[0].Hosts[0].Addr != in.Addresses[1-s] || y.Listen[0].Addr != in.Addresses[s] ||
					y.Keys[0].File != "/etc/sasyncd.key" || string(y.Groups[0].Control.Kind) != tt.control ||
					y.Groups[0].Control.Path != in.Static {
					t.Errorf("sasyncd.conf is %+v", y)
				}
			}
			if skews[Own] >= skews[Peer] {
				t.Errorf("advskew is %d here and %d there: this gateway is not the better one", skews[Own], skews[Peer])
			}
			key := string(p.Files[Own][0].Content.Bytes())
			if !p.Files[Own][0].Content.Equal(p.Files[Peer][0].Content) || !strings.HasPrefix(key, "0x") || len(key) != 67 {
				t.Errorf("the keys have the lengths %d and %d", len(key), p.Files[Peer][0].Content.Len())
			}
			other, err := New(in, NewSecrets(), "/etc", [2]Found{})
			if err != nil || other.Files[Own][0].Content.Equal(p.Files[Own][0].Content) {
				t.Errorf("two keys are equal, or %v", err)
			}
		})
	}
}

// TestSteps: files are written before they are checked, all is checked before a daemon
// starts, both start before a failover is waited for, and what gives way does so first.
func TestSteps(t *testing.T) {
	p, err := New(usual(), NewSecrets(), "/etc", [2]Found{Peer: {Templates: []string{"/etc/carpd.conf"}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range p.Steps {
		got = append(got, usual().called(s.Side)+": "+s.What)
	}
	var want []string
	for _, l := range strings.Split(`this gateway: write /etc/sasyncd.key
this gateway: write /etc/carpd.conf
this gateway: write /etc/sasyncd.conf
this gateway: check the configuration of carpd
this gateway: check the configuration of sasyncd
root@10.9.0.2: rename /etc/carpd.conf to /etc/carpd.conf.orig
root@10.9.0.2: write /etc/sasyncd.key
root@10.9.0.2: write /etc/carpd.conf
root@10.9.0.2: write /etc/sasyncd.conf
root@10.9.0.2: check the configuration of carpd
root@10.9.0.2: check the configuration of sasyncd
this gateway: start carpd and sasyncd
root@10.9.0.2: start carpd and sasyncd
this gateway: wait for at most 60 s until a failover would work`, "\n") {
		want = append(want, l)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the steps are\n%s", strings.Join(got, "\n"))
	}
	if last := p.Steps[len(p.Steps)-1].Script; last != "sasyncctl check -w 60" {
		t.Errorf("the last step is %s", last)
	}
}

// TestCommandsAreWhatStepsDo: a shell that runs the printed command gives a script the
// input that the plan has, and no command has a secret in it.
func TestCommandsAreWhatStepsDo(t *testing.T) {
	dir, secrets := t.TempDir(), NewSecrets()
	p, err := New(usual(), secrets, dir, [2]Found{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Files[Own] {
		if err := os.WriteFile(f.Path, f.Content.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Instead of ssh, the script goes to a file and its input to another.
	bin := t.TempDir()
	put(t, filepath.Join(bin, "ssh"), "#!/bin/sh\necho \"$1\" >$OUT.dest; echo \"$2\" >$OUT.script; cat >$OUT.stdin\n")
	copied := 0
	for i, s := range p.Steps {
		command := p.Command(s)
		for _, secret := range [][]byte{secrets.Key.Bytes(), secrets.Pass.Bytes()} {
			if strings.Contains(command+s.Script+s.What, string(secret)) {
				t.Errorf("%s has a secret in it", s.What)
			}
		}
		if s.Source == "" {
			if s.Side == Own && s.Writes == "" && command != s.Script || s.Writes != "" && command != "" {
				t.Errorf("%s is %q", s.What, command)
			}
			continue
		}
		copied++
		out := filepath.Join(t.TempDir(), "ran")
		cmd := exec.Command("sh", "-c", command)
		cmd.Env = append(os.Environ(), "OUT="+out, "PATH="+bin+":"+os.Getenv("PATH"))
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("step %d: %v: %s", i, err, text)
		}
		for name, want := range map[string]string{"dest": "root@10.9.0.2\n", "script": "sh -c '" + s.Script + "'\n",
			"stdin": string(s.Stdin.Bytes())} {
			if b, err := os.ReadFile(out + "." + name); err != nil || string(b) != want {
				t.Errorf("%s: the %s is %q, %v; want %q", s.What, name, b, err, want)
			}
		}
	}
	if copied != 3 {
		t.Errorf("%d files are copied, want 3", copied)
	}
}

// TestInputIsChecked: what could not work, or would be more than one word to a shell, is
// refused before anything else.
func TestInputIsChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Input)
		want   string
	}{
		"one address": {func(in *Input) { in.Addresses[Peer] = in.Addresses[Own] }, "both gateways have the address"},
		"two families": {func(in *Input) { in.Addresses[Peer] = netip.MustParseAddr("fd00::2") },
			"not of one family"},
		"multicast": {func(in *Input) { in.Addresses[Own] = netip.MustParseAddr("224.0.0.18") },
			"not the address of a host"},
		"no virtual address":   {func(in *Input) { in.Inside.VIPs = nil }, "no virtual address inside"},
		"own one as virtual":   {func(in *Input) { in.Inside.VIPs = addrs("10.9.0.2") }, "own address on the sync link"},
		"twice":                {func(in *Input) { in.Inside.VIPs = addrs("192.0.2.1") }, "already belongs to instance"},
		"shell in a device":    {func(in *Input) { in.Outside.Devices[0] = "eth0;reboot" }, "not the name of one"},
		"option as a device":   {func(in *Input) { in.Outside.Devices[1] = "-rf" }, "not the name of one"},
		"block in a device":    {func(in *Input) { in.Outside.Devices[0] = "e } x {" }, "not the name of one"},
		"option as ssh":        {func(in *Input) { in.SSH = "-oProxyCommand=reboot" }, "ssh destination"},
		"shell as ssh":         {func(in *Input) { in.SSH = "root@gw2 reboot" }, "ssh destination"},
		"vhid":                 {func(in *Input) { in.Inside.VHID = 256 }, "not one of 1 to 255"},
		"one vhid, one device": {func(in *Input) { in.Inside.VHID, in.Inside.Devices[0] = 10, "eth0" }, "vhid 10"},
		"IKE":                  {func(in *Input) { in.IKE = "racoon" }, "none of strongswan"},
		"static":               {func(in *Input) { in.IKE, in.Static = IKEStatic, "ipsec.conf" }, "not a path"},
		"wait":                 {func(in *Input) { in.Wait = 0 }, "seconds from 1"},
	} {
		in := usual()
		tt.change(&in)
		if _, err := New(in, NewSecrets(), "/etc", [2]Found{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
