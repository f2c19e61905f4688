package spell

import "testing"

func TestNearest(t *testing.T) {
	words := []string{"interface", "peer", "listen", "sharedkey", "mode"}
	for word, want := range map[string]string{
		"intreface": "interface", "Peer": "peer", "shared-key": "sharedkey", "mdoe": "mode", "pear": "peer", "vip": "",
		"xyz": "", "": "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
	if a, b, c := distance("", "abc"), distance("abcd", ""), distance("abcd", "acbd"); a != 3 || b != 4 || c != 1 {
		t.Errorf("distances are %d, %d and %d, want 3, 4 and 1", a, b, c)
	}
}
