package guard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStore(t *testing.T) {
	full := sel("10.1.0.0/24", "10.2.0.0/24")
	full.Proto, full.SrcPort, full.SrcPortMask, full.DstPort, full.DstPortMask = 6, 0x100, 0xff00, 443, 0xffff
	full.Mark, full.MarkMask = 2, ^uint32(0)
	hidden := require(0, sel("::ffff:10.0.0.0/104", "2001:db8:2::/64"))
	hidden.NoRoute = true
	var book Book
	book.Learn(at(0), []Rule{require(9, full), hidden, bypass(2, sel("0.0.0.0/0", "10.2.0.0/24"))})
	book.Learn(start.Add(time.Nanosecond), []Rule{hidden})
	got, routes, err := Decode(Encode(book, true))
	if err != nil {
		t.Fatal(err)
	}
	if !routes {
		t.Error("the second wall is forgotten")
	}
	if !slices.Equal(got.Rules(), book.Rules()) || len(got.Rules()) != 3 {
		t.Errorf("rules\n%swant\n%s", list(got.Rules()), list(book.Rules()))
	}
	want := book.Remembered()
	for i, e := range got.Remembered() {
		if e.Rule != want[i].Rule || !e.Seen.Equal(want[i].Seen) {
			t.Errorf("remembered %+v, want %+v", e, want[i])
		}
	}
	if len(got.Remembered()) != 2 {
		t.Errorf("%d remembered, want 2", len(got.Remembered()))
	}
	// What was current when the book was stored counts from when it is missed.
	got.Learn(at(1000), nil)
	if seen := got.Remembered()[0].Seen; !seen.Equal(at(1000)) {
		t.Errorf("a rule that was current is seen at %s, want %s", seen, at(1000))
	}
	if b, routes, err := Decode(Encode(Book{}, false)); err != nil || len(b.Rules()) != 0 || routes {
		t.Errorf("an empty book: %v", err)
	}
}

func TestStoreIsStrict(t *testing.T) {
	const ok = `{"src":"10.1.0.0/24","dst":"10.2.0.0/24","priority":1,"action":"require"}`
	file := func(entries ...string) string {
		return `{"version":1,"entries":[` + strings.Join(entries, ",") + `]}`
	}
	plus := func(fields string) string { return file(ok, strings.TrimSuffix(ok, "}")+","+fields+"}") }
	but := func(old, with string) string { return file(ok, strings.Replace(ok, old, with, 1)) }
	for _, c := range []struct{ name, data, want string }{
		{"nothing", "", "EOF"},
		{"an end too early", file(ok)[:50], "unexpected EOF"},
		{"more behind the end", file(ok) + "{}", "data follow"},
		{"another version", `{"version":2}`, "field version: version 2"},
		{"no version", `{}`, "field version: version 0"},
		{"an unknown field", `{"version":1,"more":1}`, `"more"`},
		{"an unknown field of an entry", plus(`"key":"x"`), `entry 2: json: unknown field "key"`},
		{"no entry", file("null"), "entry 1: field src"},
		{"no source", but(`"src":"10.1.0.0/24",`, ""), "entry 2: field src"},
		{"no prefix", but("10.2.0.0/24", "10.2.0.0"), "entry 2: field dst"},
		{"too long a prefix", but("10.2.0.0/24", "10.2.0.0/33"), "entry 2: field dst"},
		{"bits beyond the length", but("10.2.0.0/24", "10.2.0.1/24"), "entry 2: field dst: the prefix 10.2.0.1/24 has"},
		{"two families", but("10.2.0.0/24", "2001:db8::/32"), "entry 2: field dst: the family"},
		{"a port without a mask", plus(`"sport":80`), "entry 2: field sport"},
		{"a port beyond its mask", plus(`"dport":80,"dport_mask":15`), "entry 2: field dport"},
		{"a mark without a mask", plus(`"mark":1`), "entry 2: field mark"},
		{"no priority", but(`"priority":1,`, ""), "entry 2: field priority"},
		{"a priority beyond 32 bits", but(`"priority":1`, `"priority":4294967296`), "priority"},
		{"no protocol", plus(`"proto":256`), "proto"},
		{"no action", but("require", "drop"), `entry 2: field action: "drop"`},
		{"no time", plus(`"seen":"yesterday"`), "entry 2: field seen"},
		{"too many", file(slices.Repeat([]string{"0"}, MaxEntries+1)...), fmt.Sprintf("entry %d:", MaxEntries+1)},
	} {
		if _, _, err := Decode([]byte(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	if _, _, err := Decode([]byte(plus(`"sport":80,"sport_mask":255,"seen":"2026-03-01T12:00:00Z"`))); err != nil {
		t.Errorf("what is allowed: %v", err)
	}
}

// FuzzDecode: what can be read is written as it is read again.
func FuzzDecode(f *testing.F) {
	var book Book
	book.Learn(at(0), manyRules(3))
	book.Learn(at(1), manyRules(1))
	f.Add(Encode(book, true))
	f.Add([]byte(`{"version":1,"entries":[{"src":"::/0","dst":"::ffff:0:0/96","priority":0,"action":"pass"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, routes, err := Decode(data)
		if err != nil {
			return
		}
		again, more, err := Decode(Encode(b, routes))
		if err != nil || more != routes || !slices.Equal(again.Rules(), b.Rules()) {
			t.Fatalf("rules %s are read as %s, %v", names(b.Rules()), names(again.Rules()), err)
		}
		checkProgram(t, Compile(b.Rules()))
		Routes(b.Rules())
	})
}
