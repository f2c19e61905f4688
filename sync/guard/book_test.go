package guard

import (
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/sync/sadb"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(h time.Duration) time.Time { return start.Add(h * time.Hour) }

// names lists rules by destination, with their verdict.
func names(rules []Rule) string {
	var out []string
	for _, r := range rules {
		out = append(out, map[bool]string{true: "+", false: "-"}[r.Require]+r.Dst.String())
	}
	return strings.Join(out, " ")
}

func TestBookRemembers(t *testing.T) {
	a, b := require(5, sel("10.1.0.0/24", "10.2.0.0/24")), require(3, sel("10.1.0.0/24", "10.3.0.0/24"))
	moved := a
	moved.Priority = 1
	var book Book
	step := func(name string, hour time.Duration, rules []Rule, changed bool, want string, remembered int) {
		t.Helper()
		if got := book.Learn(at(hour), rules); got != changed {
			t.Errorf("%s: changed %v, want %v", name, got, changed)
		}
		if got := names(book.Rules()); got != want {
			t.Errorf("%s: rules %s, want %s", name, got, want)
		}
		if got := len(book.Remembered()); got != remembered {
			t.Errorf("%s: %d remembered, want %d", name, got, remembered)
		}
	}
	step("nothing", 0, nil, false, "", 0)
	step("two", 0, []Rule{a, b}, true, "+10.3.0.0/24 +10.2.0.0/24", 0)
	step("the same", 1, []Rule{b, a}, false, "+10.3.0.0/24 +10.2.0.0/24", 0)
	step("one goes", 2, []Rule{b}, true, "+10.3.0.0/24 +10.2.0.0/24", 1)
	step("the other goes", 5, nil, true, "+10.3.0.0/24 +10.2.0.0/24", 2)
	step("the first comes back with another priority", 6, []Rule{moved}, true, "+10.2.0.0/24 +10.3.0.0/24", 1)
	step("and goes again", 7, nil, true, "+10.2.0.0/24 +10.3.0.0/24", 2)
	step("nothing new", 8, nil, false, "+10.2.0.0/24 +10.3.0.0/24", 2)
	if end, ok := book.Next(at(8)); !ok || !end.Equal(at(5+24)) {
		t.Errorf("the next ends at %s (%v), want %s", end, ok, at(5+24))
	}
	if n := book.Expire(at(5 + 24).Add(-1)); n != 0 {
		t.Errorf("%d expire a moment early", n)
	}
	if n := book.Expire(at(5 + 24)); n != 1 || names(book.Rules()) != "+10.2.0.0/24" {
		t.Errorf("%d expire, left %s", n, names(book.Rules()))
	}
	if n := book.Expire(at(100)); n != 1 || len(book.Rules()) != 0 {
		t.Errorf("%d expire, left %s", n, names(book.Rules()))
	}
	if _, ok := book.Next(at(100)); ok {
		t.Error("an empty book has something to forget")
	}
}

func TestBookOrder(t *testing.T) {
	var book Book
	old, young := require(5, sel("10.1.0.0/24", "10.2.0.0/24")), require(5, sel("10.1.0.0/24", "10.3.0.0/24"))
	first, second := require(5, sel("10.1.0.0/24", "10.4.0.0/24")), require(5, sel("10.1.0.0/24", "10.5.0.0/24"))
	book.Learn(at(0), []Rule{old})
	book.Learn(at(1), []Rule{young, second})
	book.Learn(at(2), []Rule{first})
	want := "+10.4.0.0/24 +10.3.0.0/24 +10.5.0.0/24 +10.2.0.0/24"
	if got := names(book.Rules()); got != want {
		t.Errorf("rules %s, want %s", got, want)
	}
}

// TestBookAndTheClock: a clock that was ahead does not keep a rule for years.
func TestBookAndTheClock(t *testing.T) {
	var book Book
	book.Learn(at(100_000), []Rule{require(5, sel("10.1.0.0/24", "10.2.0.0/24"))})
	book.Learn(at(100_000), nil)
	if end, ok := book.Next(at(0)); !ok || !end.Equal(at(24)) {
		t.Errorf("the next ends at %s (%v), want %s", end, ok, at(24))
	}
	if n := book.Expire(at(0)); n != 0 {
		t.Errorf("%d expire at once", n)
	}
	if n := book.Expire(at(24)); n != 1 {
		t.Errorf("%d expire after a day, want 1", n)
	}
}

func TestBookForgets(t *testing.T) {
	three := []Rule{require(1, sel("10.1.0.0/24", "10.2.0.0/24")), require(1, sel("10.1.0.0/24", "10.2.1.0/24")),
		require(9, sel("10.1.0.0/24", "10.0.0.0/8")), require(1, sel("2001:db8::/64", "2001:db8:2::/64"))}
	hole := bypass(5, sel("10.1.0.0/24", "10.9.0.0/24"))
	for _, c := range []struct {
		dst  string
		n    int
		left string
	}{
		{"10.2.0.0/24", 1, "+10.2.1.0/24 +2001:db8:2::/64 -10.9.0.0/24 +10.0.0.0/8"},
		{"10.2.0.7/16", 2, "+2001:db8:2::/64 -10.9.0.0/24 +10.0.0.0/8"},
		{"10.2.0.0/25", 0, "+10.2.0.0/24 +10.2.1.0/24 +2001:db8:2::/64 -10.9.0.0/24 +10.0.0.0/8"},
		{"10.0.0.0/8", 4, "+2001:db8:2::/64"},
		{"0.0.0.0/0", 4, "+2001:db8:2::/64"},
		{"::/0", 1, "+10.2.0.0/24 +10.2.1.0/24 -10.9.0.0/24 +10.0.0.0/8"},
	} {
		var book Book
		book.Learn(at(0), append(slices.Clone(three), hole))
		if n := book.Forget(netip.MustParsePrefix(c.dst)); n != 0 {
			t.Errorf("%s: forgets %d current rules", c.dst, n)
		}
		book.Learn(at(0), nil)
		before := book
		if n := book.Forget(netip.MustParsePrefix(c.dst)); n != c.n || names(book.Rules()) != c.left {
			t.Errorf("%s: forgets %d and has %s, want %d and %s", c.dst, n, names(book.Rules()), c.n, c.left)
		}
		if len(before.Rules()) != 5 {
			t.Errorf("%s: a copy of the book forgets as well", c.dst)
		}
		if n := book.ForgetAll(); n != 5-c.n || len(book.Rules()) != 0 {
			t.Errorf("%s: forgets %d more and has %s", c.dst, n, names(book.Rules()))
		}
	}
}

func TestBookAndBypasses(t *testing.T) {
	wide, hole := sel("10.1.0.0/16", "10.0.0.0/8"), sel("10.1.0.0/16", "10.2.0.0/16")
	inner, apart := sel("10.1.0.0/16", "10.2.3.0/24"), sel("10.1.0.0/16", "192.168.0.0/16")
	marked := func(s Selector, mark uint32) Selector {
		s.Mark, s.MarkMask = mark, 0xff
		return s
	}
	for _, c := range []struct {
		name  string
		steps [][]Rule
		want  string
	}{
		{"all at once", [][]Rule{{require(5, wide), bypass(1, hole)}, nil}, "-10.2.0.0/16 +10.0.0.0/8"},
		{"of equal priority", [][]Rule{{bypass(5, hole), require(5, wide)}, nil}, "-10.2.0.0/16 +10.0.0.0/8"},
		{"one that never decided", [][]Rule{{require(1, wide), bypass(5, hole)}, nil}, "+10.0.0.0/8"},
		{"the bypass alone", [][]Rule{{require(5, wide), bypass(1, hole)}, {require(5, wide)}, nil}, "+10.0.0.0/8"},
		{"the bypass last", [][]Rule{{require(5, wide), bypass(1, hole)}, {bypass(1, hole)}, nil},
			"-10.2.0.0/16 +10.0.0.0/8"},
		{"of something else", [][]Rule{{require(5, wide), bypass(1, apart)}, nil}, "+10.0.0.0/8"},
		{"a policy that encrypts now", [][]Rule{{require(5, wide), bypass(1, hole)}, nil, {require(3, inner)}},
			"+10.2.3.0/24 +10.0.0.0/8"},
		{"and goes", [][]Rule{{require(5, wide), bypass(1, hole)}, nil, {require(3, inner)}, nil},
			"+10.2.3.0/24 +10.0.0.0/8"},
		{"a policy that encrypts before", [][]Rule{{require(5, wide), bypass(2, hole)}, nil, {require(1, inner)}},
			"+10.2.3.0/24 -10.2.0.0/16 +10.0.0.0/8"},
		{"a policy of equal priority that encrypts", [][]Rule{{require(5, wide), bypass(3, hole)}, nil,
			{require(3, inner)}}, "+10.2.3.0/24 -10.2.0.0/16 +10.0.0.0/8"},
		{"of another mark", [][]Rule{{require(5, marked(wide, 1)), bypass(1, marked(hole, 2))}, nil}, "+10.0.0.0/8"},
		{"of one mark", [][]Rule{{require(5, marked(wide, 1)), bypass(1, marked(hole, 1))}, nil},
			"-10.2.0.0/16 +10.0.0.0/8"},
		{"of another port", [][]Rule{{require(5, wide.with(6, 0, 80)), bypass(1, hole.with(6, 0, 22))}, nil},
			"+10.0.0.0/8"},
		{"of another source port", [][]Rule{{require(5, wide.with(6, 80, 0)), bypass(1, hole.with(6, 22, 0))}, nil},
			"+10.0.0.0/8"},
		{"what requires comes back", [][]Rule{{require(5, wide), bypass(1, hole)}, nil, {require(5, wide)}},
			"+10.0.0.0/8"},
		{"a selector that encrypts no more", [][]Rule{{require(5, wide)}, {bypass(5, wide)}}, "-10.0.0.0/8"},
		{"two of one selector", [][]Rule{{require(5, wide), bypass(1, wide)}, nil}, ""},
	} {
		var book Book
		for i, rules := range c.steps {
			book.Learn(at(time.Duration(i)), rules)
		}
		if got := names(book.Rules()); got != c.want {
			t.Errorf("%s: rules %q, want %q", c.name, got, c.want)
		}
	}
}

// TestBookIsBounded: rules that come and go do not fill the memory, and what is stored can
// be read.
func TestBookIsBounded(t *testing.T) {
	var book Book
	half := manyRules(MaxEntries / 2)
	book.Learn(at(0), half)
	book.Learn(at(1), shifted(half, 101))
	book.Learn(at(2), shifted(half, 102))
	if got := len(book.Rules()); got != MaxEntries {
		t.Errorf("%d rules, want %d", got, MaxEntries)
	}
	for _, e := range book.Remembered() {
		if !e.Seen.Equal(at(2)) {
			t.Fatalf("the book remembers %s of %s and forgets others that went later", e.Dst, e.Seen)
		}
	}
	book.Learn(at(3), append(shifted(half, 103), append(shifted(half, 104), shifted(half, 105)...)...))
	if got := len(book.Remembered()); got != 0 {
		t.Errorf("%d remembered beside more current ones than fit", got)
	}
	if b, _, err := Decode(Encode(book, false)); err != nil || len(b.Rules()) != MaxEntries {
		t.Errorf("more than a full book: %d rules, %v", len(b.Rules()), err)
	}
}

// shifted returns rules with other destinations.
func shifted(rules []Rule, first byte) []Rule {
	out := slices.Clone(rules)
	for i := range out {
		a := out[i].Dst.Addr().As4()
		a[0] = first
		out[i].Dst = netip.PrefixFrom(netip.AddrFrom4(a), 32)
	}
	return out
}

// TestFlushChangesNoVerdict: when all policies go, the remembered rules decide as the
// policies did.
func TestFlushChangesNoVerdict(t *testing.T) {
	for seed := range int64(seeds / 3) {
		d := dice{rand.New(rand.NewSource(seed))}
		policies := d.policies()
		rules, _ := Of(policies)
		var book Book
		book.Learn(at(0), rules)
		book.Learn(at(1), nil)
		before, after := Compile(rules), Compile(book.Rules())
		for range 40 {
			if pk := d.packet(policies); before.Drops(pk) != after.Drops(pk) {
				t.Fatalf("seed %d: dropped %v before the flush and %v after it: %+v\n%s", seed, before.Drops(pk),
					after.Drops(pk), pk, list(rules))
			}
		}
	}
}

// TestMemoryOpensNothing: whatever a book has been through, it drops what the current rules
// drop, and after Keep it drops no more.
func TestMemoryOpensNothing(t *testing.T) {
	held := 0
	for seed := range int64(seeds / 3) {
		d := dice{rand.New(rand.NewSource(seed))}
		pool := append(d.policies(), d.policies()...)
		var book Book
		for hour := range time.Duration(8) {
			var policies []*sadb.Policy
			for _, p := range pool {
				if d.Intn(3) == 0 && hour != 4 {
					policies = append(policies, p)
				}
			}
			rules, _ := Of(policies)
			book.Learn(at(hour), rules)
			checkBook(t, &book, fmt.Sprintf("seed %d, step %d", seed, hour))
			now, whole := Compile(rules), Compile(book.Rules())
			for range 20 {
				pk := d.packet(pool)
				if now.Drops(pk) && !whole.Drops(pk) {
					t.Fatalf("seed %d, step %d: the memory passes %+v\ncurrent\n%sall\n%s", seed, hour, pk,
						list(rules), list(book.Rules()))
				}
				if whole.Drops(pk) && !now.Drops(pk) {
					held++
				}
			}
		}
		again, _, err := Decode(Encode(book, false))
		if err != nil || !slices.Equal(again.Rules(), book.Rules()) {
			t.Fatalf("seed %d: stored rules are %s, %v; want %s", seed, names(again.Rules()), err, names(book.Rules()))
		}
		book.Expire(at(7).Add(Keep))
		if n := len(book.Remembered()); n != 0 {
			t.Fatalf("seed %d: %d are remembered for ever", seed, n)
		}
	}
	t.Logf("%d packets were dropped by what was remembered alone", held)
	if held < seeds/3 {
		t.Error("the memory holds next to nothing")
	}
}

// checkBook checks what holds for every book.
func checkBook(t *testing.T, b *Book, when string) {
	t.Helper()
	known := make(map[Selector]bool)
	for _, r := range b.current {
		known[r.Selector] = true
	}
	for _, e := range b.Remembered() {
		if known[e.Selector] {
			t.Fatalf("%s: %+v is remembered and known otherwise", when, e)
		}
		known[e.Selector] = true
	}
	rules := b.Rules()
	if !slices.IsSortedFunc(rules, func(x, y Rule) int { return int(x.Priority) - int(y.Priority) }) {
		t.Fatalf("%s: rules are not in order: %s", when, names(rules))
	}
}
