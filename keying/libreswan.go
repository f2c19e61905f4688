package keying

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// libreswan drives pluto by whack. Its shutdown can leave SAs and policies in
// the kernel and peers untold.
type libreswan struct {
	priv Privileged
}

// NewLibreswan returns the driver of libreswan.
func NewLibreswan(p Privileged) Driver { return &libreswan{p} }

// Name implements Driver.
func (*libreswan) Name() string { return "libreswan" }

// Caps implements Driver. The start of pluto 5 empties the kernel's tables, that
// of 4 does not; which of them is about to start cannot be asked.
func (*libreswan) Caps() Caps { return Caps{ProcessWide: true, FlushesOnStart: true} }

// whack never waits for a peer: some of its verbs would for ever.
func (l *libreswan) whack(ctx context.Context, do, conn string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	return l.priv.Control(ctx, Libreswan, Verb{Do: do, Conn: conn})
}

// hangLimit is for how long a pluto that runs may owe an answer before it counts
// as one that hangs. It must leave time to end it within passiveLimit.
const hangLimit = 6 * time.Second

// ask is whack for what changes no tunnel. It is repeated for a while: a pluto
// that was started just now has a process long before it answers, and more so
// on a slow machine.
func (l *libreswan) ask(ctx context.Context, limit time.Duration, do string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		out, err := l.whack(ctx, do, "")
		if err == nil || l.priv.Running(ctx, Libreswan) != nil || !sleep(ctx, pollTime) {
			return out, err
		}
	}
}

// plutoConn is a connection as whack --status shows it.
type plutoConn struct {
	name          string
	local, remote string
}

// plutoStatus is what matters of whack --status.
type plutoStatus struct {
	version string
	conns   []plutoConn
	busy    map[string]bool // connections with states, established or not
}

// Lines of whack --status: the version, the ends of a connection, and a state; and
// of --trafficstatus. The end that is this machine's comes first. 4.x begins each
// line with a number of three digits, 5.x does not.
//
//	000 pluto_version=4.10, pluto_vendorid=OE-Libreswan-4.10, ...
//	000 "net": 10.1.0.0/24===192.0.2.1<192.0.2.1>[@gw]...192.0.2.100<192.0.2.100>[@r]===10.2.0.0/24; unrouted; ...
//	000 #3: "net":500 STATE_V2_PARENT_I1 (sent IKE_SA_INIT request); ...
//	006 #4: "net", type=ESP, add_time=1700000000, ...
var (
	plutoVersion = regexp.MustCompile(`^(?:000 )?pluto_version=([^, ]+)`)
	plutoEnds    = regexp.MustCompile(`^(?:000 )?"([^"]+)": +(.*)\.\.\.(.*?); +` +
		`(?:unrouted|routed|erouted|prospective|eclipsed|fail)`)
	plutoState = regexp.MustCompile(`^(?:000 )?#[0-9]+: "([^"]+)"`)
	plutoUp    = regexp.MustCompile(`^(?:[0-9]{3} )?#[0-9]+: "([^"]+)"[^,]*, type=`)
)

func parsePluto(out string) plutoStatus {
	s := plutoStatus{busy: make(map[string]bool)}
	for line := range strings.Lines(out) {
		if m := plutoEnds.FindStringSubmatch(line); m != nil {
			left, _, _ := strings.Cut(m[2], "---")
			if i := strings.LastIndex(left, "==="); i >= 0 {
				left = left[i+3:]
			}
			right, _, _ := strings.Cut(m[3], "===")
			if i := strings.LastIndex(right, "---"); i >= 0 {
				right = right[i+3:]
			}
			s.conns = append(s.conns, plutoConn{m[1], plutoHost(left), plutoHost(right)})
		} else if m := plutoState.FindStringSubmatch(line); m != nil {
			s.busy[m[1]] = true
		} else if m := plutoVersion.FindStringSubmatch(line); m != nil {
			s.version = m[1]
		}
	}
	return s
}

// flushes reports whether the start of this pluto empties the kernel's tables: from
// 5.0 on.
func (s plutoStatus) flushes() bool {
	major, _, _ := strings.Cut(s.version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= 5
}

// plutoHost takes the address out of an end: what comes before its name in
// angle brackets, its id in square ones, or its options.
func plutoHost(end string) string {
	if i := strings.IndexAny(end, "<[,"); i >= 0 {
		end = end[:i]
	}
	return end
}

// parseTraffic returns the connections with an established child.
func parseTraffic(out string) map[tunnelID]bool {
	up := make(map[tunnelID]bool)
	for line := range strings.Lines(out) {
		if m := plutoUp.FindStringSubmatch(line); m != nil {
			up[tunnelID{m[1], ""}] = true
		}
	}
	return up
}

// wanted picks the connections from a VIP to a remote that can be initiated to.
func (s plutoStatus) wanted(p Plan) []tunnel {
	var out []tunnel
	for _, c := range s.conns {
		if remote := concrete([]string{c.remote}); remote != "" && onVIP([]string{c.local}, p.VIPs) {
			out = append(out, tunnel{conn: c.name, remote: remote})
		}
	}
	return out
}

// Probe implements Driver.
func (l *libreswan) Probe(ctx context.Context, _ []netip.Addr) (Info, error) {
	var info Info
	props, err := l.priv.Unit(ctx, Libreswan)
	if err == nil {
		info.Stop, info.Lint = judgeUnit(Libreswan, props)
	}
	if err := l.priv.Running(ctx, Libreswan); err != nil {
		return info, err
	}
	out, err := l.whack(ctx, "status", "")
	if err != nil {
		return info, err
	}
	s := parsePluto(out)
	if s.version != "" {
		info.Version = "libreswan " + s.version
	}
	if props != nil && s.flushes() && !strings.Contains(props["ExecStartPre"], "sasyncd guard") {
		info.Lint = append(info.Lint, unitLint(props["Id"],
			"its start empties the kernel's tables, and until they are filled again traffic leaves in plaintext"))
	}
	info.IKESAs = len(s.busy)
	traffic, err := l.whack(ctx, "trafficstatus", "")
	info.Children = len(parseTraffic(traffic))
	return info, err
}

// Passive implements Driver. A pluto without states is passive as it is; it
// must have no connection with auto=start or auto=ondemand.
func (l *libreswan) Passive(ctx context.Context, h PassiveOrder) error {
	if err := l.priv.Running(ctx, Libreswan); err != nil {
		if err = unlessAbsent(err); err != nil || !h.Settled {
			return err
		}
		return l.priv.Start(ctx, Libreswan)
	}
	// A master that is about to go has no time for more: traffic waits. Nor may it
	// lose its SAs to the start of another pluto.
	if !h.Settled {
		return l.priv.Kill(ctx, Libreswan)
	}
	out, err := l.ask(ctx, hangLimit, "status")
	if err == nil {
		if len(parsePluto(out).busy) == 0 {
			return nil
		}
		if _, err = l.whack(ctx, "shutdown", ""); err == nil {
			err = l.awaitEnd(ctx)
		}
	}
	if err != nil { // it hangs
		if err := l.priv.Kill(ctx, Libreswan); err != nil {
			return err
		}
	}
	return l.priv.Start(ctx, Libreswan)
}

func (l *libreswan) awaitEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	for l.priv.Running(ctx, Libreswan) == nil {
		if !sleep(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

// Active implements Driver.
func (l *libreswan) Active(ctx context.Context, p Plan, progress func(Outcome)) error {
	if err := awaitRunning(ctx, l.priv, Libreswan); err != nil {
		return err
	}
	// It has a socket for each address that it knew when it looked last.
	if _, err := l.ask(ctx, startLimit, "listen"); err != nil {
		return err
	}
	pace := newPacer(p.PerRemote)
	began := time.Now()
	for {
		now := time.Now()
		status, err := l.ask(ctx, startLimit, "status")
		if err != nil {
			return err
		}
		traffic, err := l.ask(ctx, startLimit, "trafficstatus")
		if err != nil {
			return err
		}
		s := parsePluto(status)
		wanted := s.wanted(p)
		busy := make(map[tunnelID]bool)
		for name := range s.busy {
			busy[tunnelID{name, ""}] = true
		}
		start, out := pace.step(now, wanted, parseTraffic(traffic), busy)
		if progress != nil {
			progress(out)
		}
		for _, t := range start {
			if _, err := l.whack(ctx, "initiate", t.conn); err != nil {
				pace.refuse(t, err.Error())
			}
		}
		// pluto answers before it has loaded its connections, one after the other.
		if out.done() && len(s.conns) > 0 && now.Sub(began) >= settleTime {
			return pace.verdict(out)
		}
		if len(s.conns) == 0 && now.Sub(began) > startLimit {
			return errors.New("initiate tunnels: libreswan has no connection loaded; its log says why (auto=add " +
				"loads them at its start)")
		}
		if !sleep(ctx, pollTime) {
			return ctx.Err()
		}
	}
}

// Watch implements Driver.
func (l *libreswan) Watch(ctx context.Context) <-chan Notice {
	return watchRunning(ctx, l.priv, Libreswan)
}

// awaitRunning has the daemon started if it does not run, and waits for it.
func awaitRunning(ctx context.Context, p Privileged, d Daemon) error {
	err := p.Running(ctx, d)
	if unlessAbsent(err) != nil || err == nil {
		return err
	}
	if err := p.Start(ctx, d); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for p.Running(ctx, d) != nil {
		if !sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("start %s: %w", d, ErrNotRunning)
		}
	}
	return nil
}
