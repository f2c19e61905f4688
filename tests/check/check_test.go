package check

import (
	"testing"

	"sasyncd/tests/reliability"
)

// TestCatalogue: no situation hides another one in the table, and there are enough.
func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	quick, esp := 0, 0
	for _, it := range Situations() {
		name := it.Label()
		if it.ESP {
			name += ", ESP"
			esp++
		}
		if seen[name] {
			t.Errorf("twice: %s", name)
		}
		seen[name] = true
		if it.Quick {
			quick++
		}
		if it.Want != Yes && it.Want != No && it.Want != Unknown {
			t.Errorf("%s: check cannot say %q", name, it.Want)
		}
		if it.Why != "" && it.Want != No {
			t.Errorf("%s: there is nothing to explain", name)
		}
	}
	if len(seen) < 60 || esp < 10 || quick < 10 {
		t.Errorf("%d situations, %d with ESP, %d quick", len(seen), esp, quick)
	}
}

func TestCompare(t *testing.T) {
	works, fails := Outcome{Worked: true}, Outcome{Words: "nobody is MASTER"}
	for name, tt := range map[string]struct {
		said      []string
		came      [2]Outcome
		worst     string
		verdict   string
		saidOther []string // of the lab with the power cut; nil: the same
	}{
		"yes, and it works":     {[]string{Yes, Yes}, [2]Outcome{works, works}, Yes, reliability.OK, nil},
		"yes, and one does not": {[]string{Yes, Yes}, [2]Outcome{works, fails}, Yes, reliability.FalseYes, nil},
		"one member says yes":   {[]string{No, Yes}, [2]Outcome{fails, works}, No, reliability.FalseYes, nil},
		"yes before the power cut only": {[]string{No, No}, [2]Outcome{fails, fails}, No, reliability.FalseYes,
			[]string{Yes, No}},
		"no, and neither works": {[]string{No, None}, [2]Outcome{fails, fails}, No, reliability.OK, nil},
		"no, and one works":     {[]string{No, No}, [2]Outcome{fails, works}, No, reliability.OK, nil},
		"no, and both work":     {[]string{No, None}, [2]Outcome{works, works}, No, reliability.FalseNo, nil},
		"cannot tell, and none works": {[]string{Unknown, Unknown}, [2]Outcome{fails, fails}, Unknown, reliability.OK,
			nil},
		"cannot tell, and both work": {[]string{Unknown, Yes}, [2]Outcome{works, works}, Unknown, reliability.OK,
			nil},
		"nobody answers": {[]string{None, None}, [2]Outcome{works, works}, None, reliability.OK, nil},
	} {
		t.Run(name, func(t *testing.T) {
			other := tt.saidOther
			if other == nil {
				other = tt.said
			}
			if got := compare([2]*answers{{said: tt.said}, {said: other}}, tt.came); got != tt.verdict {
				t.Errorf("%q, want %q", got, tt.verdict)
			}
			if got := Combined(tt.said); got != tt.worst {
				t.Errorf("combined %q, want %q", got, tt.worst)
			}
		})
	}
}
