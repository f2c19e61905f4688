package keying

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sasyncd/keying/ipsecconf"
	"sasyncd/sync/sadb"
)

// Tables are the kernel's, as [Static] needs them.
type Tables interface {
	// Scan hands all SAs to f, some at a time.
	Scan(ctx context.Context, f func(*sadb.Chunk) error) error
	// ScanPolicies returns all policies, unless their fingerprint is the one that is known.
	ScanPolicies(ctx context.Context, known uint64) (list []*sadb.Policy, print uint64, err error)
	// Apply carries out ops in order and returns one error for each.
	Apply(ctx context.Context, ops []sadb.Op) []error
}

// Numbers remembers over restarts how far the sequence numbers of static keys
// have come. Keys go by a digest. Methods are safe for concurrent use.
type Numbers interface {
	// Bound returns a number that is above all that were sent with a key, 0 if
	// nothing is known of it. An error means that it was known and is lost.
	Bound(id string) (uint64, error)
	// Raise remembers bounds where they are above the known ones; they are on
	// disk when it returns.
	Raise(bounds map[string]uint64) error
}

// StaticConfig is what a [Static] needs.
type StaticConfig struct {
	File    string
	Load    func() (ipsecconf.Set, error) // reads the file
	Tables  Tables
	Numbers Numbers
	// Start is where this node begins to count with a key of which it knows
	// nothing. It differs from node to node, so that two of them that have not
	// heard of each other do not send the same numbers.
	Start uint64
	// Whole: the group has the whole kernel, and no virtual addresses.
	Whole bool
	Log   *slog.Logger
}

// Static is the driver of `control static`: instead of switching an IKE daemon
// it loads a file with SAs and policies, on the MASTER only. What the file made
// earlier, on this node or another one, is known by the marks of [sadb.SA.Static],
// so that only the difference is added and removed: an SA that is there keeps its
// counters. A gateway that has no policies of the file loads them in any role, so
// that nothing leaves in plaintext should it become MASTER before it has heard of
// any; without SAs they let nothing through. Flows without an SA (bypass, deny) end on no virtual address, so they
// belong to no group and are not replicated; each node loads its own, in any role.
type Static struct {
	StaticConfig

	work sync.Mutex // for what reads or changes the tables
	seen map[sadb.SAKey]fingerprint
	// unused is where SAs were to begin that the kernel did not take, by their
	// keys: those numbers may still be had.
	unused map[string]uint64

	mu    sync.Mutex
	lint  []Lint
	total int
}

// fingerprint is what a reading has shown of an SA.
type fingerprint struct {
	config uint64
	sa     *sadb.SA // nil if it is none of the file's
}

// NewStatic returns the driver. Its Keep must run beside it.
func NewStatic(c StaticConfig) *Static {
	return &Static{StaticConfig: c, seen: make(map[sadb.SAKey]fingerprint), unused: make(map[string]uint64)}
}

// Name implements Driver.
func (*Static) Name() string { return "static" }

// Caps implements Driver.
func (*Static) Caps() Caps { return Caps{LoadsPolicies: true} }

// Probe implements Driver. It tells what the file would do at the next
// promotion, and which keys are near their end.
func (s *Static) Probe(context.Context, []netip.Addr) (Info, error) {
	s.mu.Lock()
	info := Info{Children: s.total, Lint: slices.Clone(s.lint)}
	s.mu.Unlock()
	if _, err := s.Load(); err != nil {
		first := err.Error()
		if es, ok := errors.AsType[ipsecconf.Errors](err); ok {
			first = es[0].Error()
		}
		info.Lint = append(info.Lint, Lint{"the file of control static cannot be loaded: " + first,
			"correct it; sasyncd -n shows everything that is wrong"})
	}
	return info, nil
}

// Watch implements Driver.
func (*Static) Watch(context.Context) <-chan Notice { return nil }

// Passive implements Driver. What the master has loaded is replicated, so only
// flows without an SA are loaded here, and those with one where there are none.
func (s *Static) Passive(ctx context.Context, h PassiveOrder) error {
	if !h.Settled {
		return nil
	}
	s.work.Lock()
	defer s.work.Unlock()
	clear(s.unused) // from now on another node may use the keys
	if s.Whole {
		return nil
	}
	set, err := s.Load()
	if err != nil {
		return err
	}
	_, have, err := s.read(ctx)
	if err != nil {
		return err
	}
	bare := func(p *sadb.Policy) bool { return len(p.Templates) == 0 }
	want := bare
	if !slices.ContainsFunc(have, func(p *sadb.Policy) bool { return !bare(p) }) {
		want = func(p *sadb.Policy) bool { return bare(p) || endsOn(p, h.VIPs) }
	}
	_, err = s.apply(ctx, policyOps(policiesOf(set, want), keep(have, bare)))
	return err
}

// Active implements Driver: it loads the file, by difference.
func (s *Static) Active(ctx context.Context, p Plan, progress func(Outcome)) error {
	s.work.Lock()
	defer s.work.Unlock()
	set, err := s.Load()
	if err != nil {
		return err
	}
	haveSAs, havePolicies, err := s.read(ctx)
	if err != nil {
		return err
	}
	saIn := func(sa *sadb.SA) bool { return s.Whole || p.Has(sa.Src) || p.Has(sa.Key.Dst) }
	policyIn := func(pol *sadb.Policy) bool { return s.Whole || len(pol.Templates) == 0 || endsOn(pol, p.VIPs) }
	var want []*sadb.SA
	var lint []Lint
	for _, e := range set.SAs {
		if saIn(e.SA) {
			want = append(want, e.SA)
		} else if len(lint) == 0 {
			lint = append(lint, Lint{fmt.Sprintf("%s: no end of %s is a virtual address of the group: it is not loaded",
				e.Pos, e.SA.Key),
				"write the virtual address as this gateway's end"})
			s.Log.Warn("static SAs without a virtual address are not loaded", "first", e.Pos.String())
		}
	}
	d := diffSAs(want, keep(haveSAs, saIn))
	if err := s.remember(haveSAs); err != nil {
		return err
	}
	outbound := func(sa *sadb.SA) bool { return counted(sa) && (s.Whole || p.Has(sa.Src)) }
	adds, errs := s.number(d.add, outbound)
	replaced, more := s.number(d.replace, outbound)
	errs = append(errs, more...)
	if err := s.remember(slices.Concat(adds, replaced)); err != nil {
		return err // rather no SA than numbers that come twice
	}
	ops := addOps(adds, false)
	ops = append(ops, addOps(replaced, true)...)
	policies := policyOps(policiesOf(set, policyIn), keep(havePolicies, policyIn))
	ops = append(ops, policies...)
	for _, sa := range d.remove {
		ops = append(ops, sadb.Op{Kind: sadb.OpDeleteSA, SA: sa})
	}
	refused, err := s.apply(ctx, ops)
	failed := len(errs) + refused
	if len(ops) > 0 || failed > 0 {
		s.Log.Info("static SAs loaded", "file", s.File, "new", len(adds), "replaced", len(replaced),
			"removed", len(d.remove),
			"failed", failed, "kept", len(want)-len(d.add)-len(d.replace), "policy_changes", len(policies))
	}
	s.note(len(want), append(lint, usedUp(haveSAs)...))
	if progress != nil {
		progress(Outcome{Wanted: len(want), Up: len(want) - failed, Failed: failed})
	}
	return errors.Join(append(errs, err)...)
}

// endsOn reports whether a policy's SAs end on one of the virtual addresses.
func endsOn(p *sadb.Policy, vips []netip.Addr) bool {
	return slices.ContainsFunc(p.Templates, func(t sadb.Template) bool {
		return slices.Contains(vips, t.Src) ||
			slices.Contains(vips, t.Dst)
	})
}

func (s *Static) note(total int, lint []Lint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total, s.lint = total, lint
}

// maxReported is how many failures an error tells.
const maxReported = 3

// apply carries out operations and returns how many SAs were not added, and what
// else failed too.
func (s *Static) apply(ctx context.Context, ops []sadb.Op) (refused int, err error) {
	var failed []error
	errs := s.Tables.Apply(ctx, ops)
	for i, err := range errs {
		if err == nil {
			continue
		}
		if len(failed) < maxReported {
			failed = append(failed, fmt.Errorf("load %s: %w", s.File, err))
		}
		if sa := ops[i].SA; ops[i].Kind == sadb.OpAddSA {
			refused++
			s.unused[keyID(sa)] = sa.OSeq
		}
	}
	for i, err := range errs { // last: another SA with the same keys may have begun
		if err == nil && ops[i].Kind == sadb.OpAddSA {
			delete(s.unused, keyID(ops[i].SA))
		}
	}
	return refused, errors.Join(failed...)
}

// read returns what the file has made, here or on another node, as it is in the
// kernel: SAs with their counters, and policies.
func (s *Static) read(ctx context.Context) (sas []*sadb.SA, policies []*sadb.Policy, err error) {
	seen := make(map[sadb.SAKey]fingerprint, len(s.seen))
	err = s.Tables.Scan(ctx, func(c *sadb.Chunk) error {
		for i, r := range c.Readings {
			g, ok := s.seen[r.Key]
			if !ok || r.Config == 0 || g.config != r.Config {
				sa, err := c.SA(i)
				if err != nil {
					return err
				}
				if g = (fingerprint{config: r.Config}); sa.Static() {
					g.sa = sa
				}
			}
			if g.sa != nil {
				sa := *g.sa
				sa.OSeq, sa.Bitmap = r.OSeq, nil
				sas = append(sas, &sa)
				delete(s.unused, keyID(&sa))
			}
			seen[r.Key] = g
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	all, _, err := s.Tables.ScanPolicies(ctx, 0)
	if err != nil {
		return nil, nil, err
	}
	s.seen = seen
	return sas, keep(all, func(p *sadb.Policy) bool { return !p.Socket && p.Static() }), nil
}

// keepEvery is how often it is looked how far the numbers have come.
const keepEvery = 2 * time.Second

// Keep remembers until ctx ends how far the sequence numbers have come, in any
// role: a standby's are ahead of the master's, and it may be the one that is
// started alone one day.
func (s *Static) Keep(ctx context.Context) error {
	t := time.NewTicker(keepEvery)
	defer t.Stop()
	ok := true
	for {
		err := s.keepOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && ok {
			s.Log.Error("how far static keys are used cannot be remembered: a cold start would repeat sequence numbers",
				"err", err)
		}
		ok = err == nil
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (s *Static) keepOnce(ctx context.Context) error {
	s.work.Lock()
	defer s.work.Unlock()
	sas, _, err := s.read(ctx)
	if err != nil {
		return err
	}
	return s.remember(sas)
}
