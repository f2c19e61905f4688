package guard

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Keep is how long a Book remembers a rule whose policy has gone.
const Keep = 24 * time.Hour

// MaxEntries is how many rules a Book holds beside more current ones, and how many it
// stores.
const MaxEntries = 200_000

// Entry is a remembered rule.
type Entry struct {
	Rule
	// Seen is when the rule was last current, as far as the Book knows.
	Seen time.Time
}

// Book remembers rules whose policies have gone. The zero value is empty. A copy of a Book
// does not change with it.
//
// A policy that vanishes looks like one that an operator takes out of the configuration.
// So a rule is remembered until Keep has passed since the Book learnt that it is gone, or
// until someone has it forgotten.
//
// A bypass is remembered as well, but only for the sake of remembered rules that require:
// when all policies vanish at once, those would otherwise drop what was let through
// before. A bypass that stands for itself means nothing once it is gone, because what no
// rule requires passes. So a Book forgets a bypass as soon as
//
//   - no remembered rule that requires overlaps it and comes after it in the order of
//     Rules: nothing asks for it any more.
//   - a current rule that requires overlaps it and comes after it: the memory would let
//     pass what the policies now encrypt.
type Book struct {
	current []Rule  // in order
	gone    []Entry // in order; at equal priority the ones seen last are first
}

// Learn tells the Book the current rules and reports whether the Book changes. A rule that
// was current until now is remembered from now on. A remembered rule with the selector of a
// current one is forgotten.
//
// A Book that holds more than MaxEntries rules forgets remembered ones, those that went
// first.
func (b *Book) Learn(now time.Time, rules []Rule) (changed bool) {
	rules = inOrder(rules)
	if slices.Equal(rules, b.current) {
		return false
	}
	gone := make([]Entry, 0, len(b.current)+len(b.gone))
	for _, r := range b.current {
		gone = append(gone, Entry{Rule: r, Seen: now})
	}
	gone = append(gone, b.gone...)
	b.current = rules
	b.remember(gone)
	return true
}

// Rules returns current and remembered rules, in order. At equal priority the current ones
// are first.
func (b *Book) Rules() []Rule {
	list := make([]Rule, 0, len(b.current)+len(b.gone))
	list = append(list, b.current...)
	for _, e := range b.gone {
		list = append(list, e.Rule)
	}
	return inOrder(list)
}

// Gone is how many rules are remembered.
func (b *Book) Gone() int { return len(b.gone) }

// Remembered returns the remembered rules, in order.
func (b *Book) Remembered() []Entry { return slices.Clone(b.gone) }

// Expire forgets what has been remembered for Keep and returns how many rules that are. A
// time of an entry that is later than now comes of a clock that was wrong, and is taken for
// now.
func (b *Book) Expire(now time.Time) int {
	gone := slices.Clone(b.gone)
	for i := range gone {
		if gone[i].Seen.After(now) {
			gone[i].Seen = now
		}
	}
	return b.without(gone, func(e Entry) bool { return !now.Before(e.Seen.Add(Keep)) })
}

// Next returns when Expire has something to forget, and false where nothing is remembered.
func (b *Book) Next(now time.Time) (at time.Time, ok bool) {
	for i, e := range b.gone {
		end := e.Seen.Add(Keep)
		if e.Seen.After(now) {
			end = now.Add(Keep)
		}
		if i == 0 || end.Before(at) {
			at = end
		}
	}
	return at, len(b.gone) > 0
}

// Forget forgets remembered rules whose destinations are all in dst, with the bypasses that
// were remembered for them. It returns how many rules it forgets.
func (b *Book) Forget(dst netip.Prefix) int {
	return b.without(b.gone, func(e Entry) bool { return covers(dst, e.Dst) })
}

// ForgetAll forgets all remembered rules and returns how many.
func (b *Book) ForgetAll() int {
	return b.without(b.gone, func(Entry) bool { return true })
}

// without remembers those entries of gone for which out is false. It returns how many
// entries the Book has lost.
func (b *Book) without(gone []Entry, out func(Entry) bool) int {
	before := len(b.gone)
	b.remember(slices.DeleteFunc(slices.Clone(gone), out))
	return before - len(b.gone)
}

// remember replaces what is remembered by those of gone that are worth it. gone becomes the
// Book's.
func (b *Book) remember(gone []Entry) {
	slices.SortStableFunc(gone, func(x, y Entry) int { return cmp.Compare(x.Priority, y.Priority) })
	known := make(map[Selector]struct{}, len(b.current)+len(gone))
	for _, r := range b.current {
		known[r.Selector] = struct{}{}
	}
	// Of two with one selector the first decides, so the second is not needed.
	gone = slices.DeleteFunc(gone, func(e Entry) bool {
		_, ok := known[e.Selector]
		known[e.Selector] = struct{}{}
		return ok
	})
	gone = youngest(gone, max(0, MaxEntries-len(b.current)))
	b.gone = b.withoutBypasses(gone)
}

// youngest returns those n entries that were seen last, in the order of list.
func youngest(list []Entry, n int) []Entry {
	if len(list) <= n {
		return list
	}
	at := make([]int, len(list))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(x, y int) int { return list[y].Seen.Compare(list[x].Seen) })
	at = at[:n]
	slices.Sort(at)
	out := make([]Entry, 0, n)
	for _, i := range at {
		out = append(out, list[i])
	}
	return out
}

// withoutBypasses returns the entries of gone without bypasses that a Book does not
// remember.
func (b *Book) withoutBypasses(gone []Entry) []Entry {
	out := make([]Entry, 0, len(gone))
	for i, e := range gone {
		if e.Require || b.wanted(e.Rule, gone[i+1:]) {
			out = append(out, e)
		}
	}
	return out
}

// wanted reports whether a bypass is remembered for the sake of the entries after it.
func (b *Book) wanted(bypass Rule, after []Entry) bool {
	if !slices.ContainsFunc(after, func(e Entry) bool { return e.Require && e.overlaps(bypass.Selector) }) {
		return false
	}
	return !slices.ContainsFunc(b.current, func(r Rule) bool {
		return r.Require && r.Priority > bypass.Priority && r.overlaps(bypass.Selector)
	})
}
