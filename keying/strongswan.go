package keying

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sasyncd/keying/vici"
)

// strongSwan drives charon over VICI. Passive is a SIGKILL: no setting of
// charon keeps its orderly end from sending DELETE and from removing SAs.
type strongSwan struct {
	priv Privileged
}

// NewStrongSwan returns the driver of strongSwan without its ha plugin.
func NewStrongSwan(p Privileged) Driver { return &strongSwan{p} }

// Name implements Driver.
func (*strongSwan) Name() string { return "strongswan" }

// Caps implements Driver.
func (*strongSwan) Caps() Caps { return Caps{ProcessWide: true} }

// Times of the driver.
const (
	answerLimit = 2 * time.Second        // for a command of charon that changes nothing
	startLimit  = 20 * time.Second       // for charon to come up
	pollTime    = 250 * time.Millisecond // between looks at negotiations, when no event comes
	settleTime  = time.Second            // in which a daemon that has just started loads connections
)

func (s *strongSwan) dial(ctx context.Context) (*vici.Client, error) {
	conn, err := s.priv.Dial(ctx, StrongSwan)
	if err != nil {
		return nil, err
	}
	return vici.NewClient(conn), nil
}

// await connects to charon, and has it started if it does not run.
func (s *strongSwan) await(ctx context.Context) (*vici.Client, error) {
	c, err := s.dial(ctx)
	if !errors.Is(err, ErrNotRunning) {
		return c, err
	}
	if err := s.priv.Start(ctx, StrongSwan); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if !sleep(ctx, pause) {
			return nil, err
		}
		if c, err = s.dial(ctx); !errors.Is(err, ErrNotRunning) {
			return c, err
		}
	}
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Passive implements Driver. A charon without IKE SAs of its own is passive as
// it is: it neither answers for SAs that it does not know nor initiates.
func (s *strongSwan) Passive(ctx context.Context, h PassiveOrder) error {
	quick, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	c, err := s.dial(quick)
	if errors.Is(err, ErrNotRunning) {
		return s.startIf(ctx, h)
	}
	if err == nil {
		defer c.Close()
		var own []ikeSA
		if own, err = listSAs(quick, c); err == nil && len(own) == 0 {
			return nil
		}
	}
	// One that does not answer is killed too.
	if err := s.priv.Kill(ctx, StrongSwan); err != nil {
		return err
	}
	return s.startIf(ctx, h)
}

// startIf has charon started, for NAT-T, whose packets need its socket. While
// the VIPs are here, traffic waits for this gateway to be silent, so nothing
// more is done then: the same order comes again when they have gone.
func (s *strongSwan) startIf(ctx context.Context, h PassiveOrder) error {
	if !h.Settled {
		return nil
	}
	return s.priv.Start(ctx, StrongSwan)
}

// Active implements Driver.
func (s *strongSwan) Active(ctx context.Context, p Plan, progress func(Outcome)) error {
	c, err := s.await(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := s.wakeups(ctx)
	pace := newPacer(p.PerRemote)
	began := time.Now()
	var conns []connection
	var read time.Time
	for {
		now := time.Now()
		// What was loaded late is found when the rest is done.
		if read.IsZero() || now.Sub(read) > settleTime {
			if conns, err = listConns(ctx, c); err != nil {
				return err
			}
			read = now
		}
		own, err := listSAs(ctx, c)
		if err != nil {
			return err
		}
		wanted := wantedTunnels(conns, p)
		up, busy := progressOf(own, wanted)
		start, out := pace.step(now, wanted, up, busy)
		if progress != nil {
			progress(out)
		}
		for _, t := range start {
			if err := initiate(ctx, c, t); err != nil {
				var refused *vici.CommandError
				if !errors.As(err, &refused) {
					return err
				}
				pace.refuse(t, refused.Message)
			}
		}
		if out.done() && len(conns) > 0 && read.Sub(began) >= settleTime {
			return pace.verdict(out)
		}
		if len(conns) == 0 && now.Sub(began) > startLimit {
			return errors.New("initiate tunnels: strongswan has no connection loaded; load them at its start " +
				"(swanctl --load-all)")
		}
		t := time.NewTimer(pollTime)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// verdict is the error of tunnels that failed.
func (p *pacer) verdict(out Outcome) error {
	if out.Failed == 0 {
		return nil
	}
	var names []string
	for id, why := range p.failed {
		names = append(names, id.conn+"/"+id.child+": "+why)
	}
	slices.Sort(names)
	return fmt.Errorf("initiate tunnels: %d of %d failed, first %s", out.Failed, out.Wanted, names[0])
}

// initiate has charon begin a negotiation and does not wait for it.
func initiate(ctx context.Context, c *vici.Client, t tunnel) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	_, err := c.Call(ctx, "initiate", vici.Value("ike", t.conn), vici.Value("child", t.child),
		vici.Value("timeout", "-1"))
	return err
}

// events of charon after which a look at its SAs is worthwhile.
var saEvents = []string{"ike-updown", "child-updown", "ike-rekey", "child-rekey"}

// wakeups signals when an SA of charon's comes or goes, until ctx ends.
func (s *strongSwan) wakeups(ctx context.Context) <-chan struct{} {
	wake := make(chan struct{}, 1)
	c, err := s.dial(ctx)
	if err != nil {
		return wake // polling does
	}
	go func() {
		defer c.Close()
		_ = c.Listen(ctx, func(string, vici.Message) {
			select {
			case wake <- struct{}{}:
			default:
			}
		}, saEvents...)
	}()
	return wake
}

// Watch implements Driver.
func (s *strongSwan) Watch(ctx context.Context) <-chan Notice {
	out := make(chan Notice)
	send := func(k NoticeKind) {
		select {
		case out <- Notice{k}:
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(out)
		for pause := 100 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, time.Second) {
			if c, err := s.dial(ctx); err == nil {
				pause = 100 * time.Millisecond
				send(NoticeBack)
				_ = c.Listen(ctx, func(string, vici.Message) { send(NoticeChild) }, saEvents...)
				c.Close()
				if ctx.Err() == nil {
					send(NoticeLost)
				}
			}
			sleep(ctx, pause)
		}
	}()
	return out
}

// Probe implements Driver.
func (s *strongSwan) Probe(ctx context.Context, vips []netip.Addr) (Info, error) {
	var info Info
	if props, err := s.priv.Unit(ctx, StrongSwan); err == nil {
		info.Stop, info.Lint = judgeUnit(StrongSwan, props)
	}
	c, err := s.dial(ctx)
	if err != nil {
		return info, err
	}
	defer c.Close()
	v, err := c.Call(ctx, "version")
	if err != nil {
		return info, err
	}
	info.Version = strings.TrimSpace(v.Get("daemon") + " " + v.Get("version"))
	own, err := listSAs(ctx, c)
	if err != nil {
		return info, err
	}
	info.IKESAs = len(own)
	for _, sa := range own {
		info.Children += len(sa.children)
	}
	conns, err := listConns(ctx, c)
	if err != nil {
		return info, err
	}
	info.Lint = append(info.Lint, lintConns(conns, vips)...)
	text, err := s.priv.Control(ctx, StrongSwan, Verb{Do: "settings"})
	if err != nil {
		return info, err
	}
	if text != "" {
		var file []swanConn
		if err := json.Unmarshal([]byte(text), &file); err != nil {
			return info, fmt.Errorf("read settings of strongswan: %w", err)
		}
		info.Lint = append(info.Lint, lintSwanctl(file, conns,
			func(c connection) bool { return onVIP(c.local, vips) })...)
	}
	err = c.Stream(ctx, "list-policies", "list-policy", func(m vici.Message) {
		for _, p := range m.Sections() {
			info.Lint = append(info.Lint, Lint{"strongswan: " + p.Name +
				" has a trap policy, which takes the replicated policy away when it is unloaded",
				"start_action = none in swanctl.conf"})
		}
	}, vici.Value("trap", "yes"))
	return info, err
}
