package keying

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sasyncd/sync/sadb"
)

// part is a driver of several.
type part struct {
	name   string
	info   Info
	caps   Caps
	absent bool
	fails  error
	told   []Outcome
	calls  *[]string
}

func (p *part) Name() string { return p.name }
func (p *part) Caps() Caps   { return p.caps }
func (p *part) Probe(context.Context, []netip.Addr) (Info, error) {
	if p.absent {
		return Info{}, ErrNotRunning
	}
	return p.info, p.fails
}
func (p *part) Passive(context.Context, PassiveOrder) error {
	*p.calls = append(*p.calls, "passive "+p.name)
	return p.fails
}
func (p *part) Active(_ context.Context, _ Plan, progress func(Outcome)) error {
	*p.calls = append(*p.calls, "active "+p.name)
	for _, o := range p.told {
		progress(o)
	}
	return p.fails
}
func (p *part) Watch(ctx context.Context) <-chan Notice {
	if p.absent {
		return nil
	}
	c := make(chan Notice, 1)
	c <- Notice{Kind: NoticeBack}
	close(c)
	return c
}

// TestAllOfThem: what several daemons are is the sum, and the worst of them counts; each is
// told, whatever the others answer.
func TestAllOfThem(t *testing.T) {
	for name, tt := range map[string]struct{ one, two, want string }{
		"the first tears":  {StopTears, StopKeeps, StopTears},
		"the second tears": {StopKeeps, StopTears, StopTears},
		"none tears":       {StopKeeps, StopKeeps, StopKeeps},
		"one is not told":  {StopKeeps, StopAsIs, StopKeeps},
		"nor the other":    {StopAsIs, StopKeeps, StopKeeps},
		"tears, not told":  {StopTears, StopAsIs, StopTears},
		"nothing is told":  {StopAsIs, StopAsIs, StopAsIs},
	} {
		var calls []string
		a := &part{name: "a", calls: &calls, info: Info{Version: "1", IKESAs: 1, Children: 2, Stop: tt.one,
			Lint: []Lint{{"x", "y"}}}}
		b := &part{name: "b", calls: &calls, info: Info{Version: "2", IKESAs: 10, Children: 20, Stop: tt.two,
			Lint: []Lint{{"z", "y"}}}}
		gone := &part{name: "gone", calls: &calls, absent: true, caps: Caps{FlushesOnStart: true}}
		got, err := NewAll(a, gone, b).Probe(t.Context(), nil)
		if err != nil || got.Stop != tt.want || got.IKESAs != 11 || got.Children != 22 || got.Version != "1, 2" ||
			len(got.Lint) != 2 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}

	var calls []string
	no := errors.New("no")
	a := &part{name: "a", calls: &calls, fails: no, told: []Outcome{{Wanted: 3}, {Wanted: 3, Up: 2, Failed: 1}}}
	b := &part{name: "b", calls: &calls, told: []Outcome{{Wanted: 1, Pending: 1}, {Wanted: 1, Up: 1}},
		caps: Caps{FlushesOnStart: true}}
	gone := &part{name: "gone", calls: &calls, absent: true}
	d := NewAll(gone, a, b)
	if d.Caps().FlushesOnStart || !d.Caps().ProcessWide {
		t.Errorf("before anybody was asked: %+v", d.Caps())
	}
	if err := d.Passive(t.Context(), PassiveOrder{}); !errors.Is(err, no) || !strings.HasPrefix(err.Error(), "a: ") {
		t.Error(err)
	}
	if !d.Caps().FlushesOnStart {
		t.Error("that one flushes is lost")
	}
	var told []Outcome
	if err := d.Active(t.Context(), Plan{}, func(o Outcome) { told = append(told, o) }); !errors.Is(err, no) {
		t.Error(err)
	}
	want := []Outcome{{Wanted: 3}, {Wanted: 3, Up: 2, Failed: 1}, {Wanted: 4, Up: 2, Pending: 1, Failed: 1},
		{Wanted: 4, Up: 3, Failed: 1}}
	if fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("told %+v, want %+v", told, want)
	}
	if err := d.Active(t.Context(), Plan{}, nil); !errors.Is(err, no) {
		t.Error(err)
	}
	if got := strings.Join(calls, ", "); got != "passive a, passive b, active a, active b, active a, active b" {
		t.Error(got)
	}
	n := 0
	for range d.Watch(t.Context()) {
		n++
	}
	if n != 2 {
		t.Errorf("%d notices of two daemons", n)
	}
}

// TestOnlyOneOfThem: where one is looked for and two run, nothing is done with either.
func TestOnlyOneOfThem(t *testing.T) {
	var calls []string
	a, b := &part{name: "a", calls: &calls}, &part{name: "b", calls: &calls}
	d := NewAuto(a, b)
	if err := d.Passive(t.Context(), PassiveOrder{}); err == nil || !strings.Contains(err.Error(), "a, b all run") {
		t.Error(err)
	}
	if len(calls) > 0 {
		t.Error(calls)
	}
	a.absent = true
	if err := d.Passive(t.Context(), PassiveOrder{}); err != nil || len(calls) != 1 || calls[0] != "passive b" {
		t.Error(calls, err)
	}
	if b.absent = true; d.Passive(t.Context(), PassiveOrder{}) != nil || len(calls) != 1 {
		t.Error("nobody runs, and it fails")
	}
}

// TestStaysSettled: what has settled is not taken back by a later order of the same kind.
func TestStaysSettled(t *testing.T) {
	var m Machine
	m.Step(epoch, hushed(5, true, 0))
	m.Step(epoch, Event{Kind: EventDone, Call: 1})
	if acts := m.Step(epoch, hushed(6, false, 9)); len(acts) != 1 || acts[0].Kind != ActionAnswer {
		t.Errorf("%+v", acts)
	}
	acts := m.Step(epoch, Event{Kind: EventBack})
	if len(acts) != 1 || acts[0].Kind != ActionPassive || !acts[0].PassiveOrder.Settled || acts[0].PassiveOrder.Term != 6 {
		t.Errorf("repeated as %+v", acts)
	}
}

// TestFreeNumbersEndWithTheMastership: from then on another node may have used them.
func TestFreeNumbersEndWithTheMastership(t *testing.T) {
	for _, settled := range []bool{false, true} {
		g := newGateway(t, tunnelText+flowText, 1<<20)
		g.kernel.SetFault(func(op sadb.Op) error {
			if op.Kind == sadb.OpAddSA {
				return errors.New("no such algorithm")
			}
			return nil
		})
		if g.promote() == nil {
			t.Fatal("no error")
		}
		g.kernel.SetFault(nil)
		if err := g.driver.Passive(t.Context(), PassiveOrder{Settled: settled}); err != nil {
			t.Fatal(err)
		}
		g.mustPromote()
		if first, _ := g.send(0x1000, 1); (first > 1<<20+reserve/2) != settled {
			t.Errorf("settled %v: the first number is %d", settled, first)
		}
	}
}

// TestBoundIsAhead of what is sent, and by more where it was not enough.
func TestBoundIsAhead(t *testing.T) {
	sa := &sadb.SA{Key: sadb.SAKey{Proto: sadb.ProtoESP}, Crypt: &sadb.Algorithm{Name: "x"}}
	for _, tt := range []struct{ bound, at, want uint64 }{
		{0, 0, 0},
		{0, 5, 5 + reserve},
		{0, 3 * reserve, 4 * reserve},
		{4 * reserve, 3*reserve + reserve/2, 4 * reserve},
		{4 * reserve, 3*reserve + reserve/2 + 1, 4*reserve + reserve/2 + 1},
		{4 * reserve, 4 * reserve, 5 * reserve},
		{4 * reserve, 7 * reserve, 14 * reserve},
		{4 * reserve, 104 * reserve, 169 * reserve},
	} {
		for proto, counts := range map[uint8]bool{sadb.ProtoESP: true, sadb.ProtoAH: true, sadb.ProtoComp: false} {
			c := *sa
			c.Key.Proto, c.OSeq = proto, tt.at
			disk := &memory{bounds: map[string]uint64{keyID(&c): tt.bound}}
			s := NewStatic(StaticConfig{Numbers: disk})
			if err := s.remember([]*sadb.SA{&c, {Key: c.Key}}); err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if !counts {
				want = tt.bound
			}
			if got := disk.bounds[keyID(&c)]; got != want {
				t.Errorf("protocol %d, bound %d, at %d: %d, want %d", proto, tt.bound, tt.at, got, want)
			}
		}
	}
}

// TestDifferences: what decides about packets, of SAs and of policies, and nothing else.
func TestDifferences(t *testing.T) {
	alg := func(key string) *sadb.Algorithm { return &sadb.Algorithm{Name: "x", Key: sadb.NewSecret([]byte(key))} }
	fresh := func() *sadb.SA {
		return &sadb.SA{Src: netip.MustParseAddr(staticVIP), Mode: 1, Auth: alg("a"), Crypt: alg("b"), Comp: alg("c"),
			Window: 32}
	}
	for name, tt := range map[string]struct {
		change func(*sadb.SA)
		same   bool
	}{
		"nothing":           {func(*sadb.SA) {}, true},
		"counters":          {func(s *sadb.SA) { s.OSeq, s.Seq, s.Age = 1, 2, 3 }, true},
		"its tag":           {func(s *sadb.SA) { s.Tag++ }, true},
		"source":            {func(s *sadb.SA) { s.Src = s.Src.Next() }, false},
		"mode":              {func(s *sadb.SA) { s.Mode++ }, false},
		"authentication":    {func(s *sadb.SA) { s.Auth = alg("z") }, false},
		"no authentication": {func(s *sadb.SA) { s.Auth = nil }, false},
		"encryption":        {func(s *sadb.SA) { s.Crypt.Name = "y" }, false},
		"truncation":        {func(s *sadb.SA) { s.Auth.TruncBits++ }, false},
		"compression":       {func(s *sadb.SA) { s.Comp = nil }, false},
		"window":            {func(s *sadb.SA) { s.Window++ }, false},
		"one algorithm":     {func(s *sadb.SA) { s.AEAD = alg("d") }, false},
		"in UDP":            {func(s *sadb.SA) { s.Encap = &sadb.Encap{} }, false},
	} {
		have := fresh()
		tt.change(have)
		d := diffSAs([]*sadb.SA{fresh()}, []*sadb.SA{have})
		if len(d.add)+len(d.remove) > 0 || (len(d.replace) == 0) != tt.same {
			t.Errorf("%s: %d to add, %d to replace, %d to remove", name, len(d.add), len(d.replace), len(d.remove))
		}
	}
	policy := func() *sadb.Policy {
		return &sadb.Policy{Priority: 5, Action: sadb.ActionAllow, Templates: []sadb.Template{{Reqid: 1}}}
	}
	for name, tt := range map[string]struct {
		change func(*sadb.Policy)
		ops    int
	}{
		"nothing":       {func(*sadb.Policy) {}, 0},
		"its index":     {func(p *sadb.Policy) { p.Index++ }, 0},
		"priority":      {func(p *sadb.Policy) { p.Priority++ }, 1},
		"action":        {func(p *sadb.Policy) { p.Action = sadb.ActionBlock }, 1},
		"template":      {func(p *sadb.Policy) { p.Templates[0].Reqid++ }, 1},
		"no template":   {func(p *sadb.Policy) { p.Templates = nil }, 1},
		"two templates": {func(p *sadb.Policy) { p.Templates = append(p.Templates, sadb.Template{}) }, 1},
		"identity":      {func(p *sadb.Policy) { p.Key.Dir++ }, 2},
	} {
		have := policy()
		tt.change(have)
		ops := policyOps([]*sadb.Policy{policy()}, []*sadb.Policy{have})
		if len(ops) != tt.ops || tt.ops == 1 && ops[0].Kind != sadb.OpUpdatePolicy ||
			tt.ops == 2 && (ops[0].Kind != sadb.OpAddPolicy || ops[1].Kind != sadb.OpDeletePolicy) {
			t.Errorf("%s: %d operations", name, len(ops))
		}
	}
}
