package daemon

import (
	"context"
	"sync"
	"time"
)

// recentFor is how old an answer may be that Recent gives, in place of asking.
const recentFor = 200 * time.Millisecond

// Recent returns f, asked at most five times a second: who reads metrics as fast
// as he can must not take the engine's time. Answers are shared and must not be
// changed. Callers wait for one that is asking.
func Recent[T any](f func(context.Context) (T, error)) func(context.Context) (T, error) {
	turn := make(chan struct{}, 1)
	var mu sync.Mutex
	var last T
	var at time.Time
	known := func() (v T, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		return last, !at.IsZero() && time.Since(at) < recentFor
	}
	return func(ctx context.Context) (v T, err error) {
		if v, ok := known(); ok {
			return v, nil
		}
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return v, ctx.Err()
		}
		defer func() { <-turn }()
		if v, ok := known(); ok {
			return v, nil
		}
		if v, err = f(ctx); err != nil {
			return v, err // the next asks anew
		}
		mu.Lock()
		defer mu.Unlock()
		last, at = v, time.Now()
		return v, nil
	}
}

// recently is Recent for what takes no context.
func recently[T any](f func() (T, error)) func() (T, error) {
	ask := Recent(func(context.Context) (T, error) { return f() })
	return func() (T, error) { return ask(context.Background()) }
}
