package daemon

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRecent: however many ask, the engine is asked five times a second.
func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		fail := errors.New("busy")
		f := Recent(func(context.Context) (int, error) {
			asked++
			time.Sleep(10 * time.Millisecond)
			if asked == 1 {
				return 0, fail
			}
			return asked, nil
		})
		if _, err := f(t.Context()); !errors.Is(err, fail) {
			t.Errorf("the first error is %v", err)
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				for range 100 {
					if n, err := f(t.Context()); err != nil || n < 2 {
						t.Errorf("got %d, %v", n, err)
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		all.Wait()
		if asked > 8 {
			t.Errorf("asked %d times in a second", asked)
		}
		// Who cannot wait does not.
		slow := Recent(func(context.Context) (int, error) { time.Sleep(time.Hour); return 1, nil })
		all.Go(func() { slow(t.Context()) })
		defer all.Wait()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := slow(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("behind a slow one: %v", err)
		}
	})
}
