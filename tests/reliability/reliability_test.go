package reliability

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestResultsPassThroughOutput(t *testing.T) {
	var out bytes.Buffer
	for _, x := range []any{
		&Cell{Fault: "a", Moment: "m", Verdict: Failed, Reason: "of a kind", GapMS: 7, BudgetMS: 9,
			Stamp: Stamp{Version: "v1", Seed: 3}},
		&Cell{Fault: "a", Moment: "n", Verdict: NA, Reason: "no sense", GapMS: -1},
		&Cell{Fault: "a", Moment: "m", Verdict: OK, GapMS: 8, BudgetMS: 9, Stamp: Stamp{Version: "v1", Seed: 3}},
		&Run{Failovers: 1000, Duplicates: 5, Failed: true},
		&Mutant{Invariant: "I3", Name: "no fence", Verdict: "not caught"},
		&Prediction{Situation: "dead", Where: "standby", Gateways: 2, Election: "carpd, VRRP",
			Said: []string{"no", "yes"}, Codes: []string{"fails elector-lost"},
			Planned: "worked", Cut: "after 4s: nobody is MASTER", Verdict: FalseYes},
		&Prediction{Situation: "deaf", Where: "standby", Gateways: 2, Election: "carpd, VRRP",
			Said: []string{"no", "no"}, Planned: "worked", Cut: "worked", Verdict: FalseNo, Why: "because"},
		&Leak{Row: "flush", Guard: "no", Plaintext: 1346, GapMS: 2100, Stamp: Stamp{Kernel: "Linux 6.1"}},
		&Leak{Row: "flush", Guard: "auto", Dropped: 7, Lost: 1, Stamp: Stamp{Kernel: "Linux 6.1"}},
		&Leak{Row: "flush", Guard: "auto", Dropped: 1400, Stamp: Stamp{Kernel: "Linux 6.1"}},
		&Leak{Row: "boot", Guard: "auto", Plaintext: 3, Lost: 2, Stamp: Stamp{Kernel: "Linux 6.1"}},
	} {
		out.WriteString("    some line of a test\n")
		if err := Print(&out, x); err != nil {
			t.Fatal(err)
		}
	}
	var r Results
	if err := r.Add(&out); err != nil {
		t.Fatal(err)
	}
	if len(r.Cells) != 2 || r.Cells[0].Verdict != OK || r.Cells[0].Seed != 3 {
		t.Errorf("cells %+v: the later result of a cell counts", r.Cells)
	}
	var page strings.Builder
	if err := r.Render(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| a | ok 8/9 | n/a |", "* a, n: no sense", "Version `v1`; seed 3", "1,000 failovers",
		"| sequence numbers sent twice | 5 | 0 |", "Verdict: **failed**", "**not caught**",
		"1 cells ok, 0 failed, 1 that make no sense",
		"2 situations: 1 times a member said yes and a failover did not work, 1 times one said no and both worked " +
			"(50.0 %)", "### 2 gateways, carpd, VRRP\n",
		"| dead | standby | no, yes | fails elector-lost | worked | after 4s: nobody is MASTER: **false yes** |  |",
		"| worked | worked: false no | because |",
		"### Linux 6.1\n\n| | no | auto | lost |\n",
		"| flush | 1,346 in 2,100 ms | 0; 1,400 dropped | 0 |", "| boot |  | 3 in 0 ms | 2 |"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, page.String())
		}
	}
	if err := Print(&out, "text"); err == nil {
		t.Error("text was taken for a result")
	}
	if err := r.Add(strings.NewReader(Mark + "{")); err == nil {
		t.Error("a torn line was taken for a result")
	}
}

// TestPageIsGenerated: nobody writes verdicts by hand.
func TestPageIsGenerated(t *testing.T) {
	b, err := os.ReadFile("../../docs/reliability.json")
	if err != nil {
		t.Fatal(err)
	}
	var r Results
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	if err := r.Render(&page); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page.String() {
		t.Error("docs/reliability.md is not what docs/reliability.json makes: use make reliability")
	}
}
