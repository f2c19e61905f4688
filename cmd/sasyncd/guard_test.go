package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// fakeGuard is a guard whose policies come back after a while.
type fakeGuard struct {
	set    bool
	left   bool
	back   time.Time // when all policies are; zero: never
	fails  bool      // to look at
	lifted time.Time
}

func (g *fakeGuard) Set(context.Context) (int, error) { g.set = true; return 2, nil }

func (g *fakeGuard) Missing(context.Context) (int, bool, error) {
	switch {
	case g.fails:
		return 0, true, errors.New("no")
	case !g.set:
		return 0, false, nil
	case !g.back.IsZero() && !time.Now().Before(g.back):
		return 0, true, nil
	}
	return 1, true, nil
}

func (g *fakeGuard) Leave(context.Context) error        { g.left = true; return nil }
func (g *fakeGuard) Left(context.Context) (bool, error) { return g.left, nil }

func (g *fakeGuard) Lift(context.Context) error {
	g.set, g.lifted = false, time.Now()
	return nil
}

// TestGuardEnds: it ends with the return of the policies. Without them it ends when
// sasyncd has had its time, and never where none runs, for then nobody has put back
// the policies of a MASTER.
func TestGuardEnds(t *testing.T) {
	for _, tc := range []struct {
		name       string
		set, fails bool
		back       time.Duration // 0: never
		runs       bool
		takes      time.Duration
		left       bool
	}{
		{name: "nothing is guarded", runs: true},
		{name: "the policies are back", set: true, back: 300 * time.Millisecond, takes: 300 * time.Millisecond},
		{name: "some are of nobody", set: true, runs: true, takes: guardLimit},
		{name: "sasyncd does not run", set: true, takes: guardLimit, left: true},
		{name: "the kernel does not answer", set: true, fails: true, runs: true, takes: guardLimit, left: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, began := &fakeGuard{set: tc.set, fails: tc.fails}, time.Now()
				if tc.back != 0 {
					g.back = began.Add(tc.back)
				}
				err := endGuard(t.Context(), g, func() bool { return tc.runs }, slog.New(slog.DiscardHandler))
				if (err != nil) != tc.fails {
					t.Error(err)
				}
				if took := time.Since(began); took < tc.takes || took > tc.takes+guardEach {
					t.Errorf("it took %v, want %v", took, tc.takes)
				}
				if g.set != tc.left {
					t.Errorf("guarded: %v, want %v", g.set, tc.left)
				}
				if g.left != (tc.left && !tc.fails) {
					t.Errorf("left: %v", g.left)
				}
			})
		})
	}
}

// TestLeftGuardEndsWithThePolicies: nobody is about to flush under a guard that was
// left, so a gateway that may take over does not wait.
func TestLeftGuardEndsWithThePolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		g := &fakeGuard{set: true, left: true, back: began.Add(300 * time.Millisecond)}
		if err := inheritGuard(t.Context(), g, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if took := g.lifted.Sub(began); g.set || took < 300*time.Millisecond || took > 300*time.Millisecond+guardEach {
			t.Errorf("guarded %v, lifted after %v", g.set, took)
		}
	})
}

// TestGuardIsInherited: a sasyncd ends the guard that it finds, but not before an IKE
// daemon that is starting has flushed what is there.
func TestGuardIsInherited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, began := &fakeGuard{set: true, back: time.Now()}, time.Now()
		if err := inheritGuard(t.Context(), g, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if g.set || g.lifted.Sub(began) != guardLimit {
			t.Errorf("guarded %v, lifted after %v", g.set, g.lifted.Sub(began))
		}
	})
}
