package main

import (
	"context"

	"sasyncd/kernel/rules"
)

// hold is the kernel's hold as the engine wants it.
type hold struct{ *rules.Hold }

func openHold() (hold, error) {
	h, err := rules.OpenHold()
	return hold{h}, err
}

// Set holds the interfaces of those names and no other one.
func (h hold) Set(names ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), fenceLimit)
	defer cancel()
	return h.Hold.Set(ctx, names...)
}

// Held lists the interfaces that are held.
func (h hold) Held() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fenceLimit)
	defer cancel()
	return h.Hold.Held(ctx)
}

// Mend is Set. It says which of the interfaces were not held, and which others were.
func (h hold) Mend(names ...string) (missing, foreign []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), fenceLimit)
	defer cancel()
	return h.Hold.Mend(ctx, names...)
}
