package keying

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Daemon names an IKE daemon of this machine.
type Daemon string

// IKE daemons.
const (
	StrongSwan Daemon = "strongswan"
	Libreswan  Daemon = "libreswan"
	OpenIKED   Daemon = "iked"
	ISAKMPD    Daemon = "isakmpd"
)

// Privileged does what needs root: the sockets of IKE daemons, their life and
// death, and hooks. Its verbs are fixed, so that whoever takes over the process
// that talks to the network can do nothing else with it. Where a daemon is not
// running, errors are ErrNotRunning.
type Privileged interface {
	// Running returns nil if the daemon runs.
	Running(ctx context.Context, d Daemon) error
	// Dial connects to the daemon's control socket.
	Dial(ctx context.Context, d Daemon) (net.Conn, error)
	// Tell writes a line to the daemon's FIFO.
	Tell(ctx context.Context, d Daemon, line string) error
	// Kill ends the daemon with SIGKILL, all of its processes at once, and
	// returns when it is dead. Nothing to kill is no error.
	Kill(ctx context.Context, d Daemon) error
	// Start has the service manager start the daemon, if it does not run, and
	// does not wait for it.
	Start(ctx context.Context, d Daemon) error
	// Control runs the daemon's control program.
	Control(ctx context.Context, d Daemon, v Verb) (string, error)
	// Unit returns properties of the daemon's systemd unit; nil where there is none.
	Unit(ctx context.Context, d Daemon) (map[string]string, error)
	// Hook runs the program that is configured for the order's group.
	Hook(ctx context.Context, o Order) error
}

// lines are all that is ever written to a FIFO.
var lines = map[Daemon][]string{
	StrongSwan: {"+1", "-1"},
	ISAKMPD:    {"M active", "M passive"},
}

// Verb is one fixed invocation of a control program.
type Verb struct {
	Do   string // a key of verbs
	Conn string // for verbs that take the name of a connection
}

// verbs are all command lines there are; %s is the name of a connection.
var verbs = map[Daemon]map[string][]string{
	StrongSwan: {
		// Not of a program: what swanctl.conf says, without its secrets.
		"settings": {},
	},
	Libreswan: {
		"shutdown":      {"--shutdown", "--leave-state"},
		"listen":        {"--listen"},
		"initiate":      {"--initiate", "--asynchronous", "--name", "%s"},
		"status":        {"--status"},
		"trafficstatus": {"--trafficstatus"},
		"instance":      {}, // not of whack: see Local.instance
	},
	OpenIKED: {
		"active":  {"active"},
		"passive": {"passive"},
		"sas":     {"show", "sa"},
		// Not of ikectl: what iked.conf says, without its keys, and Local.instance.
		"policies": {},
		"instance": {},
	},
}

// args returns the arguments of a verb.
func (v Verb) args(d Daemon) ([]string, error) {
	form, ok := verbs[d][v.Do]
	if !ok {
		return nil, fmt.Errorf("run control program of %s: no verb %q", d, v.Do)
	}
	args := make([]string, len(form))
	for i, a := range form {
		if a == "%s" {
			if !safeName(v.Conn) {
				return nil, fmt.Errorf("run control program of %s: %q is no name of a connection", d, v.Conn)
			}
			a = v.Conn
		}
		args[i] = a
	}
	return args, nil
}

// safeName accepts names that no control program takes for something else.
func safeName(s string) bool {
	if s == "" || len(s) > 255 || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"'\$;&|<>`, r)
	})
}

// checkLine refuses what is none of a daemon's lines.
func checkLine(d Daemon, line string) error {
	if !slices.Contains(lines[d], line) {
		return fmt.Errorf("write to fifo of %s: no line %q", d, line)
	}
	return nil
}
