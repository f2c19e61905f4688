package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/compare"
	"sasyncd/sync/engine"
	"sasyncd/tests/jsondoc"
)

// What is printed with -j is what docs/json.md says, field by field.
func TestJSONIsDocumented(t *testing.T) {
	doc, err := jsondoc.Read()
	if err != nil {
		t.Fatal(err)
	}
	s := full()
	empty := report.Status{Status: engine.Status{Groups: []engine.GroupStatus{}, Members: []engine.MemberStatus{}},
		Peers: []report.Peer{}, Seen: []report.Seen{}}
	empty.Check = report.Verdict{Answer: report.AnswerYes, Reasons: []report.Problem{}, Warnings: []report.Problem{}}
	known := report.Peers{Peers: s.Peers, Members: []report.Member{{Addresses: []string{"10.0.0.4:500"},
		Roles: map[string]string{"carp1": "MASTER"}, Seen: &s.Seen[0]}}}
	d := report.Diff{Differences: []compare.Difference{{How: "extra"},
		{How: "differs", Fields: []compare.FieldDifference{{Field: "reqid"}}}}}
	fo := report.Failover{Handovers: []report.Handover{{Group: "carp1", OK: true, Gap: 0.012,
		Holding: []string{"10.0.0.3"}}}}
	rs := report.Resync{Transfers: []report.Transfer{{Complete: true, Seconds: 0.1}}}
	for _, tt := range []struct {
		line, section string
		verb          daemon.Verb
		code          int
	}{
		{"status", "status", says(s), 0},
		{"status", "status", says(empty), 0},
		{"check", "check", says(s.Check), 1},
		{"peers", "peers", says(known), 0},
		{"failover -n", "plan", says(planOf(func(*report.Planned) {})), 0},
		{"failover --dry-run", "plan", says(planOf(sick(report.AnswerNo))), 1},
		{"diff 10.0.0.2", "diff", says(d), 1},
		{"show", "show", says(report.ShowItem{Flow: &fullFlow}, report.ShowItem{SA: &fullSA}), 0},
		{"failover", "failover", says(report.Line[report.Failover]{Step: &report.Step{}},
			report.Line[report.Failover]{Result: &fo}), 0},
		{"resync", "resync", says(report.Line[report.Resync]{Result: &rs}), 0},
		{"last", "last", says(report.Last{Groups: []report.GroupLast{{Group: "carp1",
			Failovers: []report.Timeline{report.NewTimeline(*s.Groups[0].LastFailover)}}}}), 0},
		{"reload", "done", says(), 0},
		// top prints these beside the fields of status, without end.
		{"peers", "tunnels", says(report.Tunnels{Tunnels: []engine.Tunnel{{Group: "carp1", SAs: 2, Last: at,
			Local: netip.MustParseAddr("203.0.113.1"), Remote: netip.MustParseAddr("198.51.100.1")}, {}}}), 0},
		{"diff x", "error", daemon.Verb{Handle: says().Handle, Changes: false}, 1}, // no answer
		{"explode", "error", says(), 2},
	} {
		verb, _, _ := strings.Cut(tt.line, " ")
		if tt.section == "plan" {
			verb = "plan"
		}
		code, out, _ := ctl(t, serve(t, map[string]daemon.Verb{verb: tt.verb}),
			append([]string{"-j"}, strings.Fields(tt.line)...)...)
		if code != tt.code || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: code %d, want %d: %s", tt.line, code, tt.code, out)
		}
		if err := doc.Check(tt.section, []byte(out)); err != nil {
			t.Errorf("%s: %v", tt.line, err)
		}
	}
	if code, out, _ := ctl(t, "/nowhere", "-j", "status"); code != daemon.ExitUnknown ||
		doc.Check("error", []byte(out)) != nil {
		t.Errorf("without a daemon: %d, %s", code, out)
	}
}

// A policy and an SA in which every field has a value.
var (
	some, age = uint64(7), 1.5
	fullFlow  = report.Flow{Text: "flow", Direction: "in", Type: "require", From: "10.2.0.0/16", To: "10.1.0.0/16",
		Protocol: "tcp", FromPort: "22", ToPort: "80",
		Priority: 1, Mark: "0x1/0xff", IfID: 2, Templates: []report.Template{{Protocol: "esp", Mode: "tunnel",
			Src: "192.0.2.1", Dst: "192.0.2.2", Reqid: 1, SPI: "0x1", Level: "use"}}}
	fullSA = report.SA{Text: "esp", Protocol: "esp", Mode: "tunnel", Auth: "a", Enc: "e", Comp: "c", AuthKey: "0x00",
		EncKey: "0x00", Mark: "0x1/0xff", IfID: 1, UDPEncap: 4500,
		UseAge: &age, LastPacket: &age, Soft: &report.Lifetime{Bytes: &some, Packets: &some, Add: &age, Use: &age},
		Hard: &report.Lifetime{}}
)

// The sample in which every field has a value really has every field, so that
// none escapes the comparison above.
func TestSampleIsFull(t *testing.T) {
	b, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsondoc.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range []string{"status", "group", "peer", "seen", "progress"} {
		for _, f := range doc[section] {
			name := f.Path[strings.LastIndexAny(f.Path, ".]}")+1:]
			if name != "" && !strings.Contains(string(b), `"`+name+`":`) {
				t.Errorf("%s: %s is not in the sample", section, f.Path)
			}
		}
	}
}
