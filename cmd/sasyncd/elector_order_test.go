package main

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/sync/engine"
)

// TestAnswersDoNotWaitBehindQuestions: the election waits for Prepared, Takeover
// and Resign, whatever else was asked before and is not answered.
func TestAnswersDoNotWaitBehindQuestions(t *testing.T) {
	c := newStubCarpd(t)
	c.mute = map[string]bool{api.VerbStatus: true, api.VerbHoldBack: true, api.VerbReady: true}
	c.begin()
	e := newCarpdElector(c.path, []string{"carp1"}, "test", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	isMaster(t, e)

	e.Able("carp1", func(error) {})
	e.HoldBack("carp1", time.Second, "hand-over", func(error) {})
	e.Ready("carp1", engine.Readiness{InSync: true})
	began := time.Now()
	e.Prepared("carp1", 8)
	e.Takeover("carp1", 8, 0)
	e.Resign("carp1", "split")
	asked := func(verb string) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.ContainsFunc(c.asked, func(r api.Request) bool { return r.Verb == verb })
	}
	for _, verb := range []string{api.VerbPrepared, api.VerbTakeover, api.VerbResign, api.VerbReady, api.VerbStatus} {
		for !asked(verb) {
			if time.Since(began) > 3*time.Second {
				t.Fatalf("no %s within 3 s of carpd's silence to a question", verb)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}
