package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"sasyncd/cmd/internal/conf"
	"sasyncd/kernel/xfrm"
	"sasyncd/keying"
	"sasyncd/sync/sadb"
)

// encapCheck is how often the port for ESP in UDP is looked after.
const encapCheck = time.Second

// encapGrace is for how long that port is left to an IKE daemon that has let it
// go: longer than charon needs to be back, which cannot start while it is held.
const encapGrace = 5 * time.Second

// encapWatch is the kernel as the engine sees it, and notes at each reading
// whether SAs for ESP in UDP are there.
type encapWatch struct {
	*xfrm.Kernel
	ip4, ip6 atomic.Bool
}

// Scan implements engine.Kernel.
func (w *encapWatch) Scan(ctx context.Context, f func(*sadb.Chunk) error) ([]*sadb.Policy, error) {
	var e encapped
	policies, err := w.Kernel.Scan(ctx, func(c *sadb.Chunk) error {
		e.add(c.Readings)
		return f(c)
	})
	if err != nil {
		return nil, err
	}
	w.ip4.Store(e.ip4)
	w.ip6.Store(e.ip6)
	return policies, nil
}

// encapped says for which families SAs for ESP in UDP are there.
type encapped struct{ ip4, ip6 bool }

func (e *encapped) add(list []sadb.Reading) {
	for i := range list {
		if r := &list[i]; r.Encap {
			e.ip4 = e.ip4 || r.Key.Dst.Is4()
			e.ip6 = e.ip6 || !r.Key.Dst.Is4()
		}
	}
}

// open helps an IKE daemon that was started while the port was held and could
// not have it: it never tries again.
func (w *encapWatch) open(ctx context.Context, port *xfrm.EncapPort, restart func(context.Context) error,
	log *slog.Logger) {
	const what = "an IKE daemon could not open udp port 4500, which was held for it"
	if restart == nil {
		log.Error(what + "; stop both, and start it before sasyncd")
		return
	}
	port.Leave()
	log.Error(what + "; restarting it")
	if err := restart(ctx); err != nil {
		log.Error("restarting the IKE daemon failed; restart it now", "err", err)
	}
}

// restarter returns what restarts the IKE daemon that cannot share a port, nil
// where nobody is to.
func restarter(c *conf.Sasyncd, p keying.Privileged) func(context.Context) error {
	for _, g := range c.Groups {
		switch g.Control.Kind {
		case conf.ControlAuto, conf.ControlStrongswan, conf.ControlStrongswanHA:
			// Its unit has it started again.
			return func(ctx context.Context) error { return p.Kill(ctx, keying.StrongSwan) }
		}
	}
	return nil
}

// hold keeps port 4500 while such SAs are there and no IKE daemon has it.
// restart, if not nil, is for one that could not have it.
func (w *encapWatch) hold(port *xfrm.EncapPort, restart func(context.Context) error,
	log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		defer port.Close()
		tick := time.NewTicker(encapCheck)
		defer tick.Stop()
		port.Grace = encapGrace
		warned, shut := false, false
		for {
			was4, was6 := port.Held()
			err := port.Follow(w.ip4.Load(), w.ip6.Load())
			if err != nil && !warned {
				log.Warn("tunnels through NAT work only with an IKE daemon that holds udp port 4500", "err", err)
			}
			warned = err != nil
			if is4, is6 := port.Held(); is4 != was4 || is6 != was6 {
				log.Info("udp port 4500 for ESP in UDP", "held_ipv4", is4, "held_ipv6", is6)
			}
			was := shut
			if shut, err = port.Shut(); err == nil && shut && !was {
				w.open(ctx, port, restart, log)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}
}

// warmCrypto has the kernel load common algorithms, beside everything else.
func warmCrypto(log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		go func() {
			n, err := xfrm.WarmCrypto()
			log.Debug("algorithms ready", "count", n, "err", err)
		}()
		<-ctx.Done()
		return nil
	}
}
