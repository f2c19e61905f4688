package ike

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sasyncd/keying"
	"sasyncd/tests/harness/lab"
)

// charon is strongSwan on a node of the lab, with a control socket of its own.
type charon struct {
	*lab.Node
	t    *testing.T
	spis string // first hex digit pair of its SPIs, so that they say who made an SA
	conf string // swanctl.conf
	proc *lab.Daemon
	run  string // directory that is its /run, if it has one of its own
	ha   string // strongswan.conf of the ha plugin, if it is loaded
	more string // further settings of the section of the daemon
}

func newCharon(t *testing.T, nd *lab.Node, spis, conf string) *charon {
	c := &charon{Node: nd, t: t, spis: spis, conf: conf}
	c.Dir() // exists as long as the log is wanted
	t.Cleanup(c.dump)
	return c
}

func (c *charon) socket() string {
	if c.run != "" {
		return filepath.Join(c.run, "charon.vici")
	}
	return filepath.Join(c.Dir(), "charon.vici")
}

func (c *charon) logFile() string {
	return filepath.Join(c.Dir(), "charon.log")
}

// configure writes strongswan.conf and returns its path.
func (c *charon) configure() string {
	c.t.Helper()
	shipped := c.WriteFile("shipped.conf", strings.NewReplacer("0xc1", "0x"+c.spis).Replace(example(c.t,
		"strongswan", "gateway", "strongswan.conf")))
	include, plugin := "include "+shipped, ""
	if c.ha != "" {
		include, plugin = include+"\ninclude "+c.WriteFile("ha.conf", c.ha), "ha"
	}
	return c.WriteFile("strongswan.conf", settings(include+`
charon-systemd {
	load = random nonce openssl aes gcm sha1 sha2 hmac kdf gmp x509 pubkey pem pkcs1 pkcs8 revocation constraints kernel-netlink socket-default vici updown %s
	plugins {
		vici { socket = %s }
	}
	filelog {
		all { path = %s; append = yes; default = 1; ike_name = yes; flush_line = yes; time_format = %%H:%%M:%%S }
	}
	journal { default = -1 }
	syslog { identifier = charon }
	%s
}
`, plugin, c.uri(), c.logFile(), c.more))
}

// uri is where charon itself sees its socket.
func (c *charon) uri() string {
	if c.run != "" {
		return "unix:///run/charon.vici"
	}
	return "unix://" + c.socket()
}

// start starts charon and loads its connections.
func (c *charon) start() {
	c.t.Helper()
	conf := c.configure()
	// Ahead of the traffic, which shares the guest's only CPU.
	cmd := exec.Command("nice", "-n", "-15", "/usr/sbin/charon-systemd")
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+conf, "SWANCTL_DIR="+c.Dir())
	d := c.Exec("charon", cmd)
	d.MayExit() // keying kills it
	c.proc = d
	if err := c.load(); err != nil {
		c.t.Errorf("load connections of %s: %v\n%s", c.Name, err, d.Output())
	}
}

// inRun is the start of a shell script that has the node's own /run.
func inRun(nd *lab.Node) string {
	run := filepath.Join(nd.Dir(), "run")
	return fmt.Sprintf("set -e; mkdir -p %[1]s/harness; [ ! -d /run/harness ] || mount --rbind /run/harness "+
		"%[1]s/harness; mount --rbind %[1]s /run; set +e; ", run)
}

// supervise has charon running whatever happens to it, as its unit with the
// drop-in does, and at the place where sasyncd expects it.
func (c *charon) supervise() {
	c.t.Helper()
	c.run = filepath.Join(c.Dir(), "run")
	conf := c.configure()
	file := c.WriteFile("swanctl.conf", c.conf)
	cmd := exec.Command("unshare", "-m", "sh", "-c", inRun(c.Node)+`while :; do
		setpriv --pdeathsig KILL nice -n -15 /usr/sbin/charon-systemd &
		pid=$!
		until swanctl --load-all --noprompt --file `+file+` >/dev/null 2>&1; do kill -0 $pid || break; sleep 0.05; done
		wait $pid
		sleep 0.1
	done`)
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+conf, "SWANCTL_DIR="+c.Dir())
	c.proc = c.Exec("charon", cmd)
}

func (c *charon) load() error {
	file := c.WriteFile("swanctl.conf", c.conf)
	var err error
	for begun := time.Now(); time.Since(begun) < limit; time.Sleep(10 * time.Millisecond) {
		if _, err = c.Try("env SWANCTL_DIR=" + c.Dir() + " /usr/sbin/swanctl --load-all --noprompt --uri unix://" +
			c.socket() + " --file " + file); err == nil {
			return nil
		}
		if !c.proc.Running() {
			return fmt.Errorf("charon has ended")
		}
	}
	return err
}

func (c *charon) swanctl(args string) string {
	c.t.Helper()
	out, err := c.Try("/usr/sbin/swanctl " + args + " --uri unix://" + c.socket())
	if err != nil {
		c.t.Errorf("%v\n%s", err, out)
	}
	return out
}

// log is what charon has logged since it was first started.
func (c *charon) log() string {
	b, err := os.ReadFile(c.logFile())
	if err != nil {
		c.t.Errorf("read log of charon on %s: %v", c.Name, err)
	}
	return string(b)
}

// dump shows the log with a failed test.
func (c *charon) dump() {
	if c.t.Failed() {
		lines := strings.Split(c.log(), "\n")
		c.t.Logf("log of charon on %s:\n%s", c.Name, strings.Join(lines[max(0, len(lines)-80):], "\n"))
	}
}

// settings is Sprintf for strongSwan's files, in which a newline ends a setting:
// here a semicolon or a brace does too.
func settings(format string, args ...any) string {
	s := fmt.Sprintf(format, args...)
	return strings.NewReplacer(";", "\n", "{", "{\n", "}", "\n}\n").Replace(s)
}

// places says where keying finds this charon.
func (c *charon) places() map[keying.Daemon]keying.Place {
	p := keying.Places()[keying.StrongSwan]
	p.Socket = c.socket()
	return map[keying.Daemon]keying.Place{keying.StrongSwan: p}
}
