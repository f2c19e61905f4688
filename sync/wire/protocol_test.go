package wire

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// page is docs/protocol.md, whose tables are held against the code here and in
// the packages peer, channel and engine.
func page(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// table returns the cells of the table that begins with these headings.
func table(t *testing.T, text string, headings ...string) (rows [][]string) {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n| "+strings.Join(headings, " | ")+" |\n")
	if !ok {
		t.Fatalf("docs/protocol.md has no table of %q", headings)
	}
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		if strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) != len(headings) {
			t.Fatalf("docs/protocol.md: %q has not %d cells", line, len(headings))
		}
		rows = append(rows, cells)
	}
	return rows
}

// The table of messages is that of the code, and no message is missing.
func TestProtocolPageHasTheMessages(t *testing.T) {
	found := map[Type]bool{}
	for _, row := range table(t, page(t), "number", "name", "longest body", "fields") {
		n, err := strconv.ParseUint(row[0], 10, 8)
		if err != nil {
			t.Fatal(err)
		}
		found[Type(n)] = true
		if name := Type(n).String(); name != row[1] {
			t.Errorf("message %d is called %s, the code says %s", n, row[1], name)
		}
		if most := strconv.Itoa(MaxBody(Type(n))); most != row[2] {
			t.Errorf("body of %s: %s, the code says %s", row[1], row[2], most)
		}
	}
	for n := range 256 {
		if _, other := newMessage(Type(n)).(*Unknown); newMessage(Type(n)) != nil && !other && !found[Type(n)] {
			t.Errorf("message %s is missing", Type(n))
		}
	}
}

// line is a line of a vector: where its bytes begin, and what it says they are.
type line struct {
	at      int
	comment string
}

func vectorLines(t *testing.T, name string) (lines []line) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for text := range strings.Lines(string(b)) {
		digits, comment, _ := strings.Cut(text, "#")
		digits, comment = strings.TrimSpace(digits), strings.TrimSpace(comment)
		if digits != "" && comment != "..." {
			lines = append(lines, line{at, comment})
		}
		at += len(digits) / 2
	}
	return lines
}

// Each message's vector can be read by the page's notation: the fields stand in
// that order, have those sizes, and nothing is left.
func TestProtocolPageReadsTheVectors(t *testing.T) {
	text := page(t)
	parts := map[string]string{}
	for _, row := range table(t, text, "part", "fields") {
		parts[row[0]] = row[1]
	}
	for _, row := range table(t, text, "number", "name", "longest body", "fields") {
		w := &walker{t: t, where: row[1], b: vector(t, row[1]), at: HeaderLen, lines: vectorLines(t, row[1]),
			parts: parts}
		w.fields(row[3])
		if w.at != len(w.b) {
			t.Errorf("%s: the page accounts for %d of %d bytes", row[1], w.at, len(w.b))
		}
		if w.seen == 0 {
			t.Errorf("%s: no field was compared", row[1])
		}
	}
}

// The short form in the package comment has the same fields.
func TestPackageCommentHasTheFieldsOfThePage(t *testing.T) {
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	comment := strings.Join(strings.Fields(strings.ReplaceAll(string(b), "//", " ")), " ")
	kinds := func(s string) (out []string) {
		s = strings.NewReplacer("list16(group) groups", "u16 number, group", "list(u64 bucket) buckets",
			"list(u64 bucket)",
			"list(u16 bucket) buckets", "list(u16 bucket)", "list(16 bytes ", "list(id ").Replace(s)
		s = regexp.MustCompile(` \([^)]*\)`).ReplaceAllString(s, "") // an explanation
		for _, f := range commas.Split(s, -1) {
			kind, _, _ := strings.Cut(strings.Trim(f, " ."), " ")
			out = append(out, strings.Trim(kind, "."))
		}
		return out
	}
	for _, row := range table(t, page(t), "number", "name", "longest body", "fields") {
		camel := ""
		for p := range strings.SplitSeq(row[1], "-") {
			camel += strings.ToUpper(p[:1]) + p[1:]
		}
		m := regexp.MustCompile(` ` + row[0] + ` ` + camel +
			` (.+?) (?:\d+ [A-Z][a-zA-Z]+ (?:u|name|group|stream|list|all|text)|group u16)`).FindStringSubmatch(comment)
		if m == nil {
			t.Errorf("the package comment lacks %s %s", row[0], camel)
			continue
		}
		if row[1] == "gossip" {
			continue // words
		}
		if got, want := kinds(m[1]), kinds(row[3]); !slices.Equal(got, want) {
			t.Errorf("%s: the package comment says\n%v, the page\n%v", camel, got, want)
		}
	}
}

// Fields of records: as batch.txt, which has each of them, says.
func TestProtocolPageHasTheFieldsOfRecords(t *testing.T) {
	var lists [][]string // of the put SA and the put policy
	entry := regexp.MustCompile(`^field (\d+), \d+ bytes: (\S+)`)
	for _, l := range vectorLines(t, "batch") {
		if strings.HasPrefix(l.comment, "record: ") {
			lists = append(lists, nil)
		}
		if m := entry.FindStringSubmatch(l.comment); m != nil {
			lists[len(lists)-1] = append(lists[len(lists)-1], m[1]+" "+m[2])
		}
	}
	for i, what := range []string{"SA", "policy"} {
		fields := map[string]string{}
		for _, row := range table(t, page(t), what, "field", "value") {
			fields[strings.TrimSuffix(row[0], "*")], _, _ = strings.Cut(row[1], " ")
		}
		for _, f := range lists[i] {
			n, name, _ := strings.Cut(f, " ")
			if fields[n] != strings.TrimSuffix(name, ",") {
				t.Errorf("%s: field %s is %q in batch.txt, %q on the page", what, n, name, fields[n])
			}
			delete(fields, n)
		}
		// An AEAD goes without the others, which are like it.
		for _, n := range []string{"9", "10", "12"} {
			if what == "SA" {
				delete(fields, n)
			}
		}
		if len(fields) > 0 {
			t.Errorf("%s: batch.txt has no field %v", what, fields)
		}
	}
	for _, row := range table(t, page(t), "kind", "name", "contents") {
		if n, _ := strconv.Atoi(row[0]); RecordKind(n).String() != row[1] {
			t.Errorf("record kind %s is %s, the page says %s", row[0], RecordKind(n), row[1])
		}
	}
	for tlv, name := range map[tlv]string{saAuth: "authentication", saCrypt: "encryption", saAEAD: "AEAD",
		saComp: "compression"} {
		if !strings.Contains(page(t), fmt.Sprintf("\n| %d | %s |", tlv, name)) {
			t.Errorf("field %d is not %s on the page", tlv, name)
		}
	}
}

// The example is what stands in the vector.
func TestProtocolPageShowsARealRecord(t *testing.T) {
	_, rest, _ := strings.Cut(page(t), "<!-- batch.txt -->\n```\n")
	example, _, ok := strings.Cut(rest, "```")
	b, err := os.ReadFile("testdata/batch.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !ok || len(example) < 200 || !strings.Contains(string(b), example) {
		t.Errorf("the example is not in batch.txt:\n%s", example)
	}
}

// Limits, codes, capabilities and labels are those of the code.
func TestProtocolPageHasTheNumbers(t *testing.T) {
	text := page(t)
	want := map[string]int{
		"frame, bytes": MaxFrame, "record, bytes": MaxRecord, "records in a message": MaxRecords,
		"groups in hello":      maxGroups,
		"addresses of a group": maxVIPs, "reason of a group, bytes": maxReason, "text of bye, bytes": maxBye,
		"demotion": MaxDemotion, "templates of a policy": maxTemplate,
		"words of a bitmap": maxBitmap, "name of an algorithm, bytes": maxAlgorithm,
		"name of an interface, bytes": maxInterface,
	}
	_, limits, _ := strings.Cut(text, "| code of bye |") // the table of times has the same headings
	for _, row := range table(t, limits, "limit", "value") {
		if row[0] == "counters in a message" {
			continue // of package engine
		}
		if v, ok := want[row[0]]; !ok || strconv.Itoa(v) != row[1] {
			t.Errorf("limit of %s: %s, the code says %d", row[0], row[1], v)
		}
		delete(want, row[0])
	}
	for name := range want {
		t.Errorf("limit of %s is missing", name)
	}
	codes := table(t, text, "code of bye", "name", "when")
	for i, row := range codes {
		if c := ByeCode(i + 1); row[0] != strconv.Itoa(i+1) || row[1] != c.String() {
			t.Errorf("code %s is %s, the code says %d %s", row[0], row[1], c, c)
		}
	}
	if next := ByeCode(len(codes) + 1).String(); !strings.HasPrefix(next, "code-") {
		t.Errorf("code %s is missing", next)
	}
	var caps uint64
	for _, row := range table(t, text, "capability", "bit", "may be sent") {
		bit, err := strconv.Atoi(row[1])
		if err != nil {
			t.Fatal(err)
		}
		caps |= 1 << bit
		if want := map[string]uint64{"compare": CapCompare, "succession": CapSuccession, "fitness": CapFitness,
			"report": CapReport}[row[0]]; want != 1<<bit {
			t.Errorf("capability %s is bit %d, the code says %#x", row[0], bit, want)
		}
	}
	if caps != Caps {
		t.Errorf("capabilities %#x, the code says %#x", caps, Caps)
	}
	for _, label := range []string{domainSA, domainSAKey, domainPolicy, domainPolicyKey} {
		if !strings.Contains(text, "`"+strings.TrimSuffix(label, "\x00")+"`") {
			t.Errorf("label %q is missing", label)
		}
	}
	if !strings.Contains(text, fmt.Sprintf("It is version %d.", MaxVersion)) {
		t.Errorf("version %d is not said", MaxVersion)
	}
	for r := RoleInit; r <= RoleMaster; r++ {
		if !strings.Contains(text, fmt.Sprintf("%d %s", r, r)) {
			t.Errorf("role %d %s is missing", r, r)
		}
	}
}
