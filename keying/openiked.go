package keying

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// openIKED drives OpenIKED by ikectl. Its "passive" only stops initiating, so
// one with SAs of its own is killed; its start empties the kernel's SAD, so it
// is started again only when the VIPs have gone.
type openIKED struct {
	priv Privileged
	src  Sources
}

// Sources gives IKE to a remote a virtual IP as its source. OpenIKED needs it:
// whatever `local` says in iked.conf(5), it leaves the choice of the source
// address to the routing, and no route can name an address that is not here yet.
type Sources interface {
	// Prefer has it leave from source from now on.
	Prefer(remote, source netip.Addr) error
	// Forget takes all of that back.
	Forget() error
}

// NewOpenIKED returns the driver of OpenIKED. Sources are used by one goroutine
// at a time.
func NewOpenIKED(p Privileged, s Sources) Driver { return &openIKED{p, s} }

// Name implements Driver.
func (*openIKED) Name() string { return "iked" }

// Caps implements Driver.
func (*openIKED) Caps() Caps { return Caps{ProcessWide: true, FlushesOnStart: true} }

// pair is the two ends of an IKE SA.
type pair struct{ local, remote netip.Addr }

// ikedAnswers is how long iked may take to answer: one that has just started has
// the kernel look for all algorithms that it could have.
const ikedAnswers = 8 * time.Second

// control runs ikectl or reads iked.conf. Neither waits for a peer.
func (o *openIKED) control(ctx context.Context, do string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, ikedAnswers)
	defer cancel()
	return o.priv.Control(ctx, OpenIKED, Verb{Do: do})
}

// sas counts iked's own IKE SAs, and those of each pair that are established.
func (o *openIKED) sas(ctx context.Context) (all int, up map[pair]int, err error) {
	out, err := o.control(ctx, "sas")
	all, up = parseIKED(out)
	return all, up, err
}

// parseIKED reads what ikectl show sa prints, of which these lines matter:
//
//	iked_sas: 0x55d0 rspi 0x1 ispi 0x2 192.0.2.1:500->192.0.2.100:500<FQDN/r>[] ESTABLISHED i nexthop 0x0 pol 0x5
func parseIKED(out string) (all int, up map[pair]int) {
	up = make(map[pair]int)
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "iked_sas:") {
			continue
		}
		all++
		if !strings.Contains(line, " ESTABLISHED ") {
			continue
		}
		for f := range strings.FieldsSeq(line) {
			if local, remote, ok := strings.Cut(f, "->"); ok {
				remote, _, _ = strings.Cut(remote, "<")
				up[pair{hostOf(local), hostOf(remote)}]++
				break
			}
		}
	}
	return all, up
}

// hostOf takes the port off; IPv6 addresses have brackets or not.
func hostOf(s string) netip.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap()
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		s = s[:i]
	}
	a, _ := netip.ParseAddr(s)
	return a.Unmap()
}

// ikedEnds keeps of what iked -nv prints the ends of those policies that are to
// be initiated, one "local remote" a line. The rest has keys in it.
func ikedEnds(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		var local, remote string
		active := false
		f := strings.Fields(line)
		for i := 0; i+1 < len(f); i++ {
			switch f[i] {
			case "active":
				active = true
			case "local":
				local = f[i+1]
			case "peer":
				remote = f[i+1]
			}
		}
		from, err1 := netip.ParseAddr(local)
		to, err2 := netip.ParseAddr(remote)
		if active && err1 == nil && err2 == nil && !to.IsUnspecified() {
			fmt.Fprintln(&b, from, to)
		}
	}
	return b.String()
}

// wanted counts the policies of each pair that are from a VIP to a remote that
// can be initiated to.
func (o *openIKED) wanted(ctx context.Context, p Plan) (map[pair]int, error) {
	out, err := o.control(ctx, "policies")
	want := make(map[pair]int)
	for line := range strings.Lines(out) {
		local, remote, _ := strings.Cut(strings.TrimSpace(line), " ")
		from, err1 := netip.ParseAddr(local)
		to, err2 := netip.ParseAddr(remote)
		if err1 == nil && err2 == nil && p.Has(from) {
			want[pair{from.Unmap(), to.Unmap()}]++
		}
	}
	return want, err
}

// Probe implements Driver.
func (o *openIKED) Probe(ctx context.Context, _ []netip.Addr) (Info, error) {
	var info Info
	if props, err := o.priv.Unit(ctx, OpenIKED); err == nil {
		info.Stop, info.Lint = judgeUnit(OpenIKED, props)
	}
	if err := o.priv.Running(ctx, OpenIKED); err != nil {
		return info, err
	}
	var err error
	info.IKESAs, _, err = o.sas(ctx)
	return info, err
}

// Passive implements Driver.
func (o *openIKED) Passive(ctx context.Context, h PassiveOrder) error {
	err := o.priv.Running(ctx, OpenIKED)
	if err == nil {
		// A master that is about to go has no time to ask: traffic waits.
		if h.Settled {
			if all, _, err := o.sas(ctx); err == nil && all == 0 {
				if _, err = o.control(ctx, "passive"); err == nil {
					return o.src.Forget()
				}
			}
		}
		err = o.priv.Kill(ctx, OpenIKED)
	}
	if err := unlessAbsent(err); err != nil {
		return err
	}
	if err := o.src.Forget(); err != nil {
		return err
	}
	if !h.Settled {
		return nil
	}
	return o.priv.Start(ctx, OpenIKED)
}

// Active implements Driver. Unlike other daemons iked cannot be told what to
// initiate: it begins with everything that is configured as active, 2 s later,
// and tries again by itself what has failed.
func (o *openIKED) Active(ctx context.Context, p Plan, progress func(Outcome)) error {
	if err := awaitRunning(ctx, o.priv, OpenIKED); err != nil {
		return err
	}
	want, err := o.wanted(ctx, p)
	if err != nil {
		return err
	}
	for ends := range want {
		if err := o.src.Prefer(ends.remote, ends.local); err != nil {
			return err
		}
	}
	if _, err := o.control(ctx, "active"); err != nil {
		return err
	}
	for began := time.Now(); ; {
		_, up, err := o.sas(ctx)
		if err != nil {
			return err
		}
		var out Outcome
		for ends, n := range want {
			out.Wanted += n
			out.Up += min(n, up[ends])
		}
		late := time.Since(began) > giveUpTime
		if missing := out.Wanted - out.Up; late {
			out.Failed = missing
		} else {
			out.Pending = missing
		}
		if progress != nil {
			progress(out)
		}
		switch {
		case out.Up == out.Wanted:
			return nil
		case late:
			return fmt.Errorf("initiate tunnels: %d of %d are not up within %v", out.Failed, out.Wanted, giveUpTime)
		case !sleep(ctx, pollTime):
			return ctx.Err()
		}
	}
}

// Watch implements Driver.
func (o *openIKED) Watch(ctx context.Context) <-chan Notice {
	return watchRunning(ctx, o.priv, OpenIKED)
}

// unlessAbsent makes nothing of the absence of a daemon.
func unlessAbsent(err error) error {
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	return err
}
