package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// TestReportsReachMembers: a member hears a report when it comes, when the session
// begins, and again and again, so that one that nobody renews shows its age.
func TestReportsReachMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.stop()
		a, b := w.nodes[0], w.nodes[1]
		a.boot(100)
		b.boot(101)
		sent := 0
		w.lose = func(from int, m wire.Message) bool {
			if _, ok := m.(*wire.Report); ok && from == 0 {
				sent++
			}
			return false
		}
		tell := func(s string) {
			t.Helper()
			if err := a.engine.Report(t.Context(), []byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		heard := func() MemberStatus {
			t.Helper()
			time.Sleep(100 * time.Millisecond)
			s, err := b.engine.Status(t.Context())
			if err != nil || len(s.Members) != 1 {
				t.Fatalf("members %+v, error %v", s.Members, err)
			}
			return s.Members[0]
		}
		tell("one")
		w.connect(0, 1)
		if m := heard(); string(m.Report) != "one" || !m.Tells {
			t.Errorf("at the start of the session: %q, tells %v", m.Report, m.Tells)
		}
		tell("two")
		if m := heard(); string(m.Report) != "two" {
			t.Errorf("after a change: %q", m.Report)
		}
		before := sent
		for range 20 {
			tell("two")
			time.Sleep(time.Second)
		}
		if n := sent - before; n < 3 || n > 4 {
			t.Errorf("an unchanged report was sent %d times in 20 s, want every 5 s", n)
		}
		if m := heard(); m.ReportAge > 6 {
			t.Errorf("a report that is renewed is %.1f s old", m.ReportAge)
		}
		time.Sleep(20 * time.Second)
		if m := heard(); m.ReportAge < 20 {
			t.Errorf("a report that nobody renewed for 20 s is %.1f s old", m.ReportAge)
		}
	})
}
