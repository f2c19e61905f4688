package carp

import "testing"

// TestHighTermsAreNotBelieved: what a client tells does not carry the term out of
// what counting reaches.
func TestHighTermsAreNotBelieved(t *testing.T) {
	for _, ev := range []Event{{Kind: EvTerm}, {Kind: EvClient, Client: 7, Name: "sasyncd"}, {Kind: EvReady, Client: 7},
		{Kind: EvTakeover, Client: 7}} {
		g := NewGroup(GroupConfig{Name: "g"}, 0, 5)
		g.Step(0, Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
		for _, term := range []uint64{1 << 62, 5 + 1<<32 + 1, 1<<64 - 1} {
			ev.Term = term
			g.Step(0, ev)
			if g.Term() != 5 {
				t.Fatalf("event %v with term %d: the group knows term %d", ev.Kind, term, g.Term())
			}
		}
	}
	g := NewGroup(GroupConfig{Name: "g"}, 0, 5)
	g.Step(0, Event{Kind: EvTerm, Term: 5 + 1<<32})
	if g.Term() != 5+1<<32 {
		t.Errorf("a term that counting reaches is not believed: %d", g.Term())
	}
}
