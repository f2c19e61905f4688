package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/kernel/rules"
)

// Verbs by which the units of IKE daemons whose start empties the kernel's tables
// keep protected traffic from leaving in plaintext meanwhile.
const (
	verbGuard     = "guard"      // before the start: from now on nothing goes where the policies lead
	verbGuardWait = "guard-wait" // after it: until the policies are back
	verbGuardOff  = "guard-off"  // at once
)

const (
	// guardLimit is how long policies may take to come back while sasyncd runs. It is
	// what a MASTER without policies holds forwarding for (carpd.conf(5), `require`):
	// those that are missing then are none that sasyncd replicates.
	guardLimit = 10 * time.Second
	guardEach  = 20 * time.Millisecond
)

// guarding is the kernel's guard.
type guarding interface {
	Set(ctx context.Context) (destinations int, err error)
	Missing(ctx context.Context) (destinations int, set bool, err error)
	Lift(ctx context.Context) error
	Leave(ctx context.Context) error
	Left(ctx context.Context) (bool, error)
}

// serveGuard does what one of the verbs asks for.
func serveGuard(f daemon.Flags, log *slog.Logger) error {
	g, err := rules.OpenGuard()
	if err != nil {
		return err
	}
	defer g.Close()
	ctx := context.Background()
	switch f.Args[0] {
	case verbGuard:
		return beginGuard(ctx, g, log)
	case verbGuardWait:
		return endGuard(ctx, g, func() bool { return answers(f.Config) }, log)
	}
	return g.Lift(ctx)
}

// answers reports whether the sasyncd of a configuration runs.
func answers(config string) bool {
	socket := conf.DefaultSasyncdSocket
	if c, err := conf.LoadSasyncd(config); err == nil && c.Socket != "" {
		socket = c.Socket
	}
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func beginGuard(ctx context.Context, g guarding, log *slog.Logger) error {
	n, err := g.Set(ctx)
	if err != nil {
		return fmt.Errorf("guard what is encrypted: %w", err)
	}
	if n > 0 {
		log.Info("nothing is sent where IPsec policies lead until they are back", "destinations", n)
	}
	return nil
}

// endGuard lifts the guard when all policies are back. If some are not after
// guardLimit it is lifted all the same where sasyncd runs, and otherwise left to the
// next sasyncd: nobody has put back those of the virtual addresses yet.
func endGuard(ctx context.Context, g guarding, runs func() bool, log *slog.Logger) error {
	began := time.Now()
	for {
		missing, set, err := g.Missing(ctx)
		late := time.Since(began) >= guardLimit
		switch {
		case err != nil && late:
			return fmt.Errorf("look whether IPsec policies are back: %w", err)
		case err != nil: // it is tried again
		case !set:
			return nil
		case missing == 0:
			log.Info("the IPsec policies are back, what they are about is sent again",
				"took", time.Since(began).Round(time.Millisecond).String())
			return g.Lift(ctx)
		case late && runs():
			log.Warn("IPsec policies are not back, what they were about is sent as it is", "destinations", missing)
			return g.Lift(ctx)
		case late:
			log.Error("IPsec policies are not back and sasyncd does not run: nothing is sent where they led until it "+
				"does, or until `sasyncd guard-off`", "destinations", missing)
			return g.Leave(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(guardEach):
		}
	}
}

// guardTask ends a guard that was set while no sasyncd ran. It waits first, unless the
// guard was left: an IKE daemon may be about to start under it.
func guardTask(log *slog.Logger) (daemon.Task, error) {
	g, err := rules.OpenGuard()
	if err != nil {
		return nil, err
	}
	return daemon.NewTask("guard", func(ctx context.Context) error {
		defer g.Close()
		if err := inheritGuard(ctx, g, log); err != nil && ctx.Err() == nil {
			log.Error("what was guarded stays so", "err", err)
		}
		<-ctx.Done()
		return nil
	}), nil
}

func inheritGuard(ctx context.Context, g guarding, log *slog.Logger) error {
	if _, set, err := g.Missing(ctx); err != nil || !set {
		return err
	}
	left, err := g.Left(ctx)
	if err != nil {
		return err
	}
	wait := guardLimit
	if left {
		wait = 0
	}
	log.Warn("nothing is sent where IPsec policies led before sasyncd started, until they are back",
		"wait", wait.String())
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(wait):
	}
	return endGuard(ctx, g, func() bool { return true }, log)
}
