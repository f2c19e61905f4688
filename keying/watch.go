package keying

import (
	"context"
	"time"
)

// watchEvery is how soon the death of a daemon without events is noticed.
const watchEvery = 500 * time.Millisecond

// watchRunning tells of a daemon's death and return by looking for it.
func watchRunning(ctx context.Context, p Privileged, d Daemon) <-chan Notice {
	out := make(chan Notice)
	send := func(k NoticeKind) {
		select {
		case out <- Notice{k}:
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(out)
		for last := ""; ; {
			now := instance(ctx, p, d)
			if now != last {
				// One that was started again at once was away, too.
				if last != "" {
					send(NoticeLost)
				}
				if now != "" {
					send(NoticeBack)
				}
				last = now
			}
			if !sleep(ctx, watchEvery) {
				return
			}
		}
	}()
	return out
}

// instance names the daemon's process, "" if it does not run. Of one that has
// only a FIFO nothing but that it runs can be known.
func instance(ctx context.Context, p Privileged, d Daemon) string {
	if d == ISAKMPD {
		if p.Running(ctx, d) != nil {
			return ""
		}
		return "runs"
	}
	id, err := p.Control(ctx, d, Verb{Do: "instance"})
	if err != nil {
		return ""
	}
	return id
}
