package term

import "time"

// Age is an age in milliseconds, rounded to what a person wants to read.
func Age(ms int64) time.Duration {
	d := time.Duration(ms) * time.Millisecond
	if d > 10*time.Second {
		return d.Round(time.Second)
	}
	return d
}
