package rules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/sync/guard"
	"sasyncd/sync/sadb"
)

// What a [Sink] puts into the routing policy; fixed as those of the fence are.
const (
	SinkDevice = "sasyncd-null"
	SinkPref   = 10     // `from SRC lookup TABLE`, plus the bits that SRC is shorter than an address
	SinkTable  = 112200 // and those behind it, one for each source of a family
	// SinkTables is how many tables there are, and so how many sources a family can have.
	SinkTables = 64

	sinkLastPref  = SinkPref + 128
	sinkLastTable = SinkTable + SinkTables - 1
)

// Sink routes what policies protect to a device that drops it, unless a policy takes it
// first; see the package comment. What is in the kernel is the state, so a Sink that is
// made later, by another process too, goes on from there. Its methods are safe for
// concurrent use.
type Sink struct {
	mu      sync.Mutex
	routing *routing
	nl      *netlink.Handle
}

// OpenSink opens the routing policy of the calling thread's network namespace. It changes
// nothing.
func OpenSink() (*Sink, error) {
	r, err := openRouting()
	if err != nil {
		return nil, fmt.Errorf("open sink: %w", err)
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open sink: %w", err), r.close())
	}
	return &Sink{routing: r, nl: nl}, nil
}

// Close releases the sockets; the sink stays.
func (s *Sink) Close() error {
	s.nl.Close()
	return s.routing.close()
}

// Set makes the sink that of the routes. It leaves alone what is right already. Where one
// family has more than SinkTables sources, the first of them have their routes, and the
// error says how many sources have none.
func (s *Sink) Set(routes []guard.Route) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	index, err := s.ensureDevice()
	if err != nil {
		return fmt.Errorf("set sink: %w", err)
	}
	steps, leftOut, err := s.plan(routes, index)
	if err != nil {
		return fmt.Errorf("set sink: %w", err)
	}
	for _, changes := range steps {
		if err := s.routing.applyChunks(changes); err != nil {
			return fmt.Errorf("set sink: %w", err)
		}
	}
	if leftOut > 0 {
		return fmt.Errorf("set sink: %d sources have no route, because only %d of a family can have one: let policies "+
			"share their sources", leftOut, SinkTables)
	}
	return nil
}

// There reports whether Set would have nothing to do.
func (s *Sink) There(routes []guard.Route) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.device()
	if err != nil {
		return false, fmt.Errorf("look at sink: %w", err)
	}
	if !d.dummy || !d.up {
		return false, nil
	}
	steps, _, err := s.plan(routes, d.index)
	if err != nil {
		return false, fmt.Errorf("look at sink: %w", err)
	}
	for _, changes := range steps {
		if len(changes) > 0 {
			return false, nil
		}
	}
	return true, nil
}

// Remove takes the sink away, whoever set it.
func (s *Sink) Remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	steps, _, err := s.plan(nil, 0)
	if err != nil {
		return fmt.Errorf("remove sink: %w", err)
	}
	for _, changes := range steps {
		if err := s.routing.applyChunks(changes); err != nil {
			return fmt.Errorf("remove sink: %w", err)
		}
	}
	if err := s.removeDevice(); err != nil {
		return fmt.Errorf("remove sink: %w", err)
	}
	return nil
}

// plan reads what there is and says what to change.
func (s *Sink) plan(routes []guard.Route, device uint32) (steps [][]change, leftOut int, err error) {
	ctx := context.Background()
	all, err := s.routing.rules(ctx)
	if err != nil {
		return nil, 0, err
	}
	var have sink
	for _, r := range all {
		if r.net.IsValid() {
			have.rules = append(have.rules, r)
		}
	}
	if have.routes, err = s.routing.routes(ctx, SinkTable, sinkLastTable); err != nil {
		return nil, 0, err
	}
	want, leftOut := wantedSink(routes, have.rules, device)
	return have.steps(want), leftOut, nil
}

// sink is what a Sink has in the kernel beside the device.
type sink struct {
	rules  []rule
	routes []route
}

// wantedSink is the sink of the routes. A source keeps the table that a rule of have
// gives it.
func wantedSink(list []guard.Route, have []rule, device uint32) (want sink, leftOut int) {
	var sources []netip.Prefix
	chosen := make(map[netip.Prefix]bool) // whether a source has a table
	number := make(map[bool]int)          // of sources of a family
	for _, r := range list {
		src := r.Src.Masked()
		if _, ok := chosen[src]; ok {
			continue
		}
		six := src.Addr().Is6()
		number[six]++
		chosen[src] = number[six] <= SinkTables
		if !chosen[src] {
			leftOut++
			continue
		}
		sources = append(sources, src)
	}
	tables := sinkTables(sources, have)
	for _, src := range sources {
		want.rules = append(want.rules, sinkRule(src, tables[src]))
	}
	at := make(map[route]int) // in want.routes, by place
	for _, r := range list {
		src := r.Src.Masked()
		if !chosen[src] {
			continue
		}
		x := sinkRoute(r, tables[src], device)
		i, ok := at[x.place()]
		switch {
		case !ok:
			at[x.place()] = len(want.routes)
			want.routes = append(want.routes, x)
		case r.Pass: // an exception counts
			want.routes[i] = x
		}
	}
	return want, leftOut
}

// sinkTables gives each source a table that no other of its family has.
func sinkTables(sources []netip.Prefix, have []rule) map[netip.Prefix]uint32 {
	wanted := make(map[netip.Prefix]bool)
	for _, src := range sources {
		wanted[src] = true
	}
	tables := make(map[netip.Prefix]uint32)
	used := make(map[bool]map[uint32]bool)
	used[false], used[true] = make(map[uint32]bool), make(map[uint32]bool)
	for _, r := range have {
		six := r.net.Addr().Is6()
		if _, has := tables[r.net]; wanted[r.net] && !has && !used[six][r.table] {
			tables[r.net], used[six][r.table] = r.table, true
		}
	}
	for _, src := range sources {
		if _, has := tables[src]; has {
			continue
		}
		six, table := src.Addr().Is6(), uint32(SinkTable)
		for used[six][table] {
			table++
		}
		tables[src], used[six][table] = table, true
	}
	return tables
}

// sinkRule has longer sources first by its preference. It is for all sources where src
// has no bits.
func sinkRule(src netip.Prefix, table uint32) rule {
	return rule{net: src, pref: SinkPref + uint32(src.Addr().BitLen()-src.Bits()), table: table}
}

func sinkRoute(r guard.Route, table, device uint32) route {
	x := route{family: sadb.FamilyOf(r.Dst.Addr()), dst: r.Dst.Masked(), table: table, kind: unix.RTN_UNICAST, oif: device}
	if r.Pass {
		x.kind, x.oif = unix.RTN_THROW, 0
	}
	return x
}

// steps says what makes the wanted of what there is, in steps that leave no rule
// with half of its routes: what passes comes before what drops, and goes behind it.
//
// A route of IPv6 that a socket has cached stays valid when a table before its own gets a
// route, and would go on past the sink. A change of rules ends it, so the last step makes
// one where no other step does.
func (s sink) steps(want sink) [][]change {
	wantRule, wantRoute := make(map[rule]bool), make(map[route]bool)
	for _, r := range want.rules {
		wantRule[r] = true
	}
	for _, r := range want.routes {
		wantRoute[r] = true
	}
	var old, pass, drop, unused, passed, fresh []change
	closes, tells := false, false // IPv6: whether routes let less pass, and whether rules change
	haveRule, haveRoute := make(map[rule]bool), make(map[route]bool)
	for _, r := range s.rules {
		if haveRule[r] || !wantRule[r] { // twice, or not at all
			old = append(old, delRule(r))
		}
		haveRule[r] = true
	}
	stale := make(map[route][]route) // by place
	for _, r := range s.routes {
		if haveRoute[r] = true; !wantRoute[r] {
			stale[r.place()] = append(stale[r.place()], r)
		}
	}
	for _, r := range want.routes {
		if haveRoute[r] {
			continue
		}
		list := &drop
		if r.kind == unix.RTN_THROW {
			list = &pass
		} else {
			closes = closes || r.family == sadb.FamilyIPv6
		}
		// One of another kind has to make room.
		for _, was := range stale[r.place()] {
			*list = append(*list, delRoute(was))
		}
		delete(stale, r.place())
		*list = append(*list, newRoute(r))
	}
	for _, list := range stale {
		for _, r := range list {
			if r.kind == unix.RTN_THROW {
				passed = append(passed, delRoute(r))
				closes = closes || r.family == sadb.FamilyIPv6
			} else {
				unused = append(unused, delRoute(r))
			}
		}
	}
	for _, r := range want.rules {
		if !haveRule[r] {
			fresh = append(fresh, addRule(r))
			tells = tells || r.net.Addr().Is6()
		}
	}
	if i := slices.IndexFunc(want.rules, func(r rule) bool { return r.net.Addr().Is6() }); closes && !tells && i >= 0 {
		again := addRule(want.rules[i])
		again.flags &^= unix.NLM_F_EXCL // so it is there twice
		fresh = append(fresh, again, delRule(want.rules[i]))
	}
	return [][]change{old, pass, drop, unused, passed, fresh}
}

// place is what a table has one route for.
func (r route) place() route { return route{dst: r.dst, table: r.table} }
