package engine

import "iter"

// coroutine carries out functions one after the other, each with pauses. While Run
// serves, one that has ended its function is kept for the next: most tasks end
// within their first turn, and making a coroutine costs more than they do.
type coroutine struct {
	f       func()
	givenUp bool
	resume  func() (ended, ok bool)
	stop    func()
	yield   func(ended bool) bool
}

func newCoroutine() *coroutine {
	c := &coroutine{}
	c.resume, c.stop = iter.Pull(func(yield func(bool) bool) {
		c.yield = yield
		for c.carryOut(); yield(true); {
			c.carryOut()
		}
	})
	return c
}

// carryOut calls the function until it returns or is given up.
func (c *coroutine) carryOut() {
	defer func() {
		if r := recover(); r != nil {
			if _, ended := r.(taskEnded); !ended {
				panic(r)
			}
		}
	}()
	c.f()
}

// turn goes on with the function until it pauses, and reports whether it has ended.
func (c *coroutine) turn() bool {
	ended, _ := c.resume()
	if ended {
		c.f = nil
	}
	return ended
}

// pause ends the turn. The function calls it, and does not return from it if it is
// given up.
func (c *coroutine) pause() {
	if c.yield(false); c.givenUp {
		panic(taskEnded{})
	}
}

// giveUp ends the function where it has paused. What it defers must not pause.
func (c *coroutine) giveUp() {
	c.givenUp = true
	c.turn()
	c.givenUp = false
}

// begin returns a coroutine that carries out f from its next turn on.
func (e *Engine) begin(f func()) *coroutine {
	var c *coroutine
	if last := len(e.idle) - 1; last >= 0 {
		c, e.idle = e.idle[last], e.idle[:last]
	} else {
		c = newCoroutine()
	}
	c.f = f
	return c
}

// letGo keeps a coroutine that has ended its function while Run serves, and ends it
// otherwise.
func (e *Engine) letGo(c *coroutine) {
	if !e.serving {
		c.stop()
		return
	}
	e.idle = append(e.idle, c)
}

// endCoroutines ends all tasks where they have paused, and what carried them out.
func (e *Engine) endCoroutines() {
	e.serving = false
	for _, g := range e.order {
		e.giveUp(g)
	}
	for _, c := range e.idle {
		c.stop()
	}
	e.idle = nil
}
