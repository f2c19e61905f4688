package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// Keys of signed advertisements, for the tables.
const (
	key1 = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	key2 = "101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"
)

// both changes the files of the first two gateways.
func both(file, from, to string) []Edit {
	return edits(edit(master, file, from, to), edit(standby, file, from, to))
}

// signed has each gateway sign with a key.
func signed(a, b string) []Edit {
	return edits(edit(master, "carpd.conf", "interval 250ms", "interval 250ms; key 1 "+a),
		edit(standby, "carpd.conf", "interval 250ms", "interval 250ms; key 1 "+b))
}

// unicast has the first two gateways speak to each other alone.
func unicast() []Edit {
	peers := func(gateway int, out, in string) []Edit {
		return edits(edit(gateway, "carpd.conf", "carpdev wan0", "unicast { "+out+" }; carpdev wan0"),
			edit(gateway, "carpd.conf", "carpdev lan0", "unicast { "+in+" }; carpdev lan0"))
	}
	return append(peers(master, "192.0.2.12 2001:db8::12", "10.1.0.12 fd00:1::12"),
		peers(standby, "192.0.2.11 2001:db8::11", "10.1.0.11 fd00:1::11")...)
}

// write writes a file.
func write(gateway int, name, text string) Step {
	return func(s *Site) { s.Members[gateway].WriteFile(name, text+"\n") }
}

// otherKey gives a gateway a shared key of its own.
func otherKey(gateway int) Step {
	return func(s *Site) { s.Members[gateway].key = scenario.NewKey() }
}

// secondCarpd starts carpd once more with the same configuration.
func secondCarpd(gateway int) Step {
	return func(s *Site) {
		m := s.Members[gateway]
		d := m.Daemon("carpd", "-dc", m.Dir()+"/carpd.conf")
		d.MayExit()
		if code := d.WaitExit(startLimit); code == 0 {
			s.t.Errorf("a second carpd ran: %s", d.Output())
		}
	}
}

// cleanup runs "carpd cleanup" beside a carpd that lives.
func cleanup(gateway int) Step {
	return func(s *Site) {
		m := s.Members[gateway]
		if out, code := m.ctl("carpd", "-c", m.Dir()+"/carpd.conf", "cleanup"); code == 0 {
			s.t.Errorf("cleanup ran beside a live carpd: %s", out)
		}
	}
}

// clone gives the standby the identity of the other gateway.
func clone(s *Site) {
	a, b := s.Members[master], s.Members[standby]
	b.Sasyncd.Term(startLimit)
	text, err := os.ReadFile(a.Dir() + "/node-id")
	if err != nil {
		s.t.Fatalf("read the node id: %v", err)
	}
	b.WriteFile("node-id", string(text))
	b.startSasyncd()
}

// foreign runs keepalived on a machine inside, with the vrid of that instance.
func foreign(priority int, addr string) Step {
	return func(s *Site) {
		nd := s.Node("foreign")
		nd.Plug(s.LAN, "eth0", "10.1.0.70/24")
		file := nd.WriteFile("keepalived.conf", fmt.Sprintf("global_defs {\n\trouter_id foreign\n}\nvrrp_instance X "+
			"{\n\tstate BACKUP\n\tinterface eth0\n\tvirtual_router_id 11\n"+
			"\tpriority %d\n\tversion 3\n\tadvert_int 0.25\n\tvirtual_ipaddress {\n\t\t%s/32\n\t}\n}\n", priority,
			addr))
		nd.Exec("keepalived", exec.Command("/usr/sbin/keepalived", "--dont-fork", "--log-console", "--vrrp",
			"-f", file, "-p", filepath.Join(nd.Dir(), "keepalived.pid"), "-r", filepath.Join(nd.Dir(), "vrrp.pid")))
	}
}

// squatter is a machine inside that has been given a virtual IP.
func squatter(s *Site) {
	s.Node("squatter").Plug(s.LAN, "eth0", lab.VIPIn.String()+"/24")
}

// sameMAC gives the standby's outside interface the Ethernet address of the MASTER's.
func sameMAC(s *Site) {
	s.Members[standby].IP("link set wan0 address " + s.Members[master].WAN.MAC.String())
	s.Members[standby].WAN.MAC = s.Members[master].WAN.MAC
}

// stateName is the directory of a file system of its own, below the gateway's.
const stateName = "own"

// stateDir gives a gateway a small file system for its state.
func stateDir(gateway int) Step {
	return func(s *Site) {
		dir := filepath.Join(s.Members[gateway].Dir(), stateName)
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			err = unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=700")
		}
		if err != nil {
			s.t.Fatalf("make a file system for the state: %v", err)
		}
		s.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	}
}

// ownState has the standby use it.
func ownState(file string) Edit {
	return edit(standby, file, "statedir \"DIR\"", "statedir \"DIR/"+stateName+"\"")
}

// fill leaves no room on it.
func fill(gateway int) Step {
	return func(s *Site) {
		f, err := os.Create(filepath.Join(s.Members[gateway].Dir(), stateName, "full"))
		if err != nil {
			s.t.Fatalf("fill the disk: %v", err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
	}
}

// remount makes it read-only: a second mount of the same directory, because files of
// the first are open.
func (s *Site) remount(gateway int) {
	dir := filepath.Join(s.Members[gateway].Dir(), stateName)
	err := unix.Mount(dir, dir, "", unix.MS_BIND, "")
	if err == nil {
		s.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		err = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	if err != nil {
		s.t.Fatalf("make the state read-only: %v", err)
	}
}

// killKeepalived ends both processes of keepalived before either can clean up.
func killKeepalived(gateway int) Step {
	return func(s *Site) {
		m := s.Members[gateway]
		text, err := os.ReadFile(filepath.Join(m.Dir(), "vrrp.pid"))
		if err != nil {
			s.t.Fatalf("%v", err)
		}
		child, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			s.t.Fatalf("%v", err)
		}
		m.Other.MayExit()
		m.Other.Signal(unix.SIGSTOP)
		if err := unix.Kill(child, unix.SIGKILL); err != nil {
			s.t.Fatalf("%v", err)
		}
		m.Other.Kill()
	}
}
