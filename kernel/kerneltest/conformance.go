package kerneltest

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/sync/sadb"
)

// Subject is a kernel under test: the fake or a real one in a namespace of its
// own with empty tables.
type Subject interface {
	Dump(ctx context.Context) (*sadb.Snapshot, error)
	Scan(ctx context.Context, f func(*sadb.Chunk) error) ([]*sadb.Policy, error)
	Apply(ctx context.Context, ops []sadb.Op) []error
	Watch(ctx context.Context) (<-chan sadb.Event, error)
}

// Bench is what a case of the table works with.
type Bench struct {
	Subject
	// Other is another process on the same tables.
	Other Subject
	// FlushSA and FlushPolicy empty the tables, as another process.
	FlushSA     func(proto uint8)
	FlushPolicy func(sub bool)
	// Features are what the kernel says that it knows.
	Features sadb.Features
}

// Conformance runs the table of behaviours. open returns empty tables; around,
// if not nil, runs each case (in a synctest bubble, for instance).
func Conformance(t *testing.T, open func(t *testing.T) Bench, around func(t *testing.T, f func(t *testing.T))) {
	conformance(t, cases(), open, around)
}

// Policies runs the part of the table that a kernel without ESP has as well.
func Policies(t *testing.T, open func(t *testing.T) Bench) {
	conformance(t, append(policyCases(), policyEventCases()...), open, nil)
}

func conformance(t *testing.T, list []testCase, open func(t *testing.T) Bench,
	around func(t *testing.T, f func(t *testing.T))) {
	if around == nil {
		around = func(t *testing.T, f func(t *testing.T)) { f(t) }
	}
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			around(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c.run(&check{T: t, Bench: open(t), ctx: ctx})
			})
		})
	}
}

type testCase struct {
	name string
	run  func(c *check)
}

func cases() []testCase {
	var all []testCase
	all = append(all, saCases()...)
	all = append(all, directionCases()...)
	all = append(all, counterCases()...)
	all = append(all, policyCases()...)
	all = append(all, policyEventCases()...)
	return append(all, eventCases()...)
}

// check is a case at work.
type check struct {
	*testing.T
	Bench
	ctx context.Context
	// known is what each fingerprint stood for.
	known map[uint64]*sadb.SA
}

func (c *check) must(ops ...sadb.Op) {
	c.Helper()
	for i, err := range c.Apply(c.ctx, ops) {
		if err != nil {
			c.Fatalf("op %d: %v", i, err)
		}
	}
}

// fails applies one op and wants its error to match target.
func (c *check) fails(target error, op sadb.Op) {
	c.Helper()
	if err := c.Apply(c.ctx, []sadb.Op{op})[0]; !errors.Is(err, target) {
		c.Errorf("%s: error %v, want %v", op.Kind, err, target)
	}
}

func (c *check) dump() *sadb.Snapshot {
	c.Helper()
	snap, err := c.Dump(c.ctx)
	if err != nil {
		c.Fatal(err)
	}
	c.scan(snap)
	return snap
}

// scan wants a scan to tell what a dump has just told, and each fingerprint to
// stand for one configuration.
func (c *check) scan(snap *sadb.Snapshot) {
	c.Helper()
	if c.known == nil {
		c.known = make(map[uint64]*sadb.SA)
	}
	n := 0
	policies, err := c.Scan(c.ctx, func(chunk *sadb.Chunk) error {
		for i := range chunk.Readings {
			if n == len(snap.SAs) {
				return errors.New("more sas in a scan than in a dump")
			}
			r, want := &chunk.Readings[i], snap.SAs[n]
			n++
			sa, err := chunk.SA(i)
			if err != nil {
				return err
			}
			if r.Key != want.Key || !cmp.Equal(r.Counters, want.Counters) || r.Used != want.Used || r.Tag != want.Tag ||
				r.Age-want.Age > 1 {
				c.Errorf("a scan tells %+v of %+v", r, want)
			}
			if !sadb.SameConfig(sa, want) {
				c.Errorf("a scan decodes %+v, a dump %+v", sa, want)
			}
			if old := c.known[r.Config]; r.Config != 0 && old != nil && !sadb.SameConfig(old, sa) {
				c.Errorf("one fingerprint for %+v and %+v", old, sa)
			}
			c.known[r.Config] = sa
		}
		return nil
	})
	if err != nil || n != len(snap.SAs) || len(policies) != len(snap.Policies) {
		c.Errorf("a scan tells %d sas and %d policies of %d and %d: %v", n, len(policies), len(snap.SAs),
			len(snap.Policies), err)
	}
}

// one returns the only SA in the tables.
func (c *check) one() *sadb.SA {
	c.Helper()
	sas := c.dump().SAs
	if len(sas) != 1 {
		c.Fatalf("%d sas in the tables, want 1", len(sas))
	}
	return sas[0]
}

func (c *check) onePolicy() *sadb.Policy {
	c.Helper()
	list := c.dump().Policies
	if len(list) != 1 {
		c.Fatalf("%d policies in the tables, want 1", len(list))
	}
	return list[0]
}

func (c *check) watch(s Subject) <-chan sadb.Event {
	c.Helper()
	ch, err := s.Watch(c.ctx)
	if err != nil {
		c.Fatal(err)
	}
	return ch
}

// patience is how long an event may take: long, because it is reached only
// when the event does not come at all.
const patience = 10 * time.Second

func (c *check) next(ch <-chan sadb.Event) sadb.Event {
	c.Helper()
	select {
	case ev, ok := <-ch:
		if !ok {
			c.Fatal("channel closed, want an event")
		}
		return ev
	case <-time.After(patience):
		c.Fatal("no event")
	}
	return sadb.Event{}
}

// want reads the next event and checks kind and origin.
func (c *check) want(ch <-chan sadb.Event, kind sadb.EventKind, own bool) sadb.Event {
	c.Helper()
	ev := c.next(ch)
	if ev.Kind != kind || ev.Own != own {
		c.Fatalf("event kind %d own %v, want kind %d own %v", ev.Kind, ev.Own, kind, own)
	}
	return ev
}

// same compares SAs or policies but for tags and ages.
func (c *check) same(got, want any) {
	c.Helper()
	if diff := cmp.Diff(want, got, Comparers()...); diff != "" {
		c.Errorf("differs (-want +got):\n%s", diff)
	}
}

var (
	errExist    = fs.ErrExist
	errNotExist = fs.ErrNotExist
)
