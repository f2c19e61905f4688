package lab

import (
	"time"

	"sasyncd/tests/harness"
)

// Eventually polls cond until it holds, and ends the test when it still does not
// after the limit, which a slow guest stretches; what says what was waited for. It returns how long that took.
func Eventually(t T, limit time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	limit = harness.Scaled(limit)
	start := time.Now()
	for {
		if cond() {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("waited %v in vain: %s", limit, what)
			return limit // a program's T may not end the goroutine
		}
		time.Sleep(5 * time.Millisecond)
	}
}
