// Package coroutine lets a goroutine carry out a function in turns.
package coroutine

import "iter"

// ended is what a function that is given up panics with, at its pause.
type ended struct{}

// Coroutine carries out functions one after the other, each with pauses. It is not safe
// for concurrent use, and Stop must end it.
type Coroutine struct {
	f       func()
	givenUp bool
	resume  func() (done, ok bool)
	stop    func()
	yield   func(done bool) bool
}

// New returns one that has no function yet.
func New() *Coroutine {
	c := &Coroutine{}
	c.resume, c.stop = iter.Pull(func(yield func(bool) bool) {
		c.yield = yield
		for c.carryOut(); yield(true); {
			c.carryOut()
		}
	})
	return c
}

// carryOut calls the function until it returns or is given up.
func (c *Coroutine) carryOut() {
	defer func() {
		if r := recover(); r != nil {
			if _, is := r.(ended); !is {
				panic(r)
			}
		}
	}()
	c.f()
}

// Turn goes on with the function until it pauses, and reports whether it has ended.
func (c *Coroutine) Turn() bool {
	done, _ := c.resume()
	if done {
		c.f = nil
	}
	return done
}

// Pause ends the turn. The function calls it, and does not return from it if it is
// given up.
func (c *Coroutine) Pause() {
	if c.yield(false); c.givenUp {
		panic(ended{})
	}
}

// GiveUp ends the function where it has paused. What it defers must not pause.
func (c *Coroutine) GiveUp() {
	c.givenUp = true
	c.Turn()
	c.givenUp = false
}

// Begin has f carried out from the next turn on. The function before has ended.
func (c *Coroutine) Begin(f func()) { c.f = f }

// Stop ends the coroutine. Its function has ended, or is never heard of again.
func (c *Coroutine) Stop() { c.stop() }
