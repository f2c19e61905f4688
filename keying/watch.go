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
	go func() {
		defer close(out)
		for runs := false; ; {
			if now := p.Running(ctx, d) == nil; now != runs {
				runs = now
				kind := NoticeLost
				if runs {
					kind = NoticeBack
				}
				select {
				case out <- Notice{kind}:
				case <-ctx.Done():
				}
			}
			if !sleep(ctx, watchEvery) {
				return
			}
		}
	}()
	return out
}
