package conformance

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sasyncd/sync/sadb"
	"sasyncd/tests/corpus"
	"sasyncd/tests/harness"
)

// fixtures are dumps of the corpus, on which the codec's own tests run where
// there is no ESP. With -update they are written; otherwise this shows that
// they are what a kernel says.
const fixtures = "../../kernel/xfrm/testdata"

func TestFixtures(t *testing.T) {
	t.Run("sas.hex", func(t *testing.T) {
		enterNS(t)
		var out bytes.Buffer
		for _, c := range corpus.SAs() {
			run(t, "ip xfrm state add "+c.Args)
			writeFixture(&out, c.Name, newest(t, rawSAs(t), isProto(4)))
		}
		fixtureBitmaps(t, &out)
		compareFixture(t, "sas.hex", out.Bytes(), 176, 184)
	})
	t.Run("policies.hex", func(t *testing.T) {
		enterNS(t)
		var out bytes.Buffer
		seen := map[string]bool{}
		for _, c := range corpus.Policies() {
			run(t, "ip xfrm policy add "+c.Args)
			for _, raw := range rawPolicies(t) {
				key := string(raw[156:160]) + string(raw[160]) // index, direction
				if !seen[key] {
					seen[key] = true
					writeFixture(&out, c.Name, raw)
				}
			}
		}
		compareFixture(t, "policies.hex", out.Bytes(), 136, 144)
	})
}

// fixtureBitmaps adds SAs whose windows have holes, which iproute2 cannot make.
func fixtureBitmaps(t *testing.T, out *bytes.Buffer) {
	k := openKernel(t)
	snap, err := k.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, sa := range snap.SAs {
		if sa.Key.SPI != 0xc1000001 && sa.Key.SPI != 0xc1000003 && sa.Key.SPI != 0xc1000005 {
			continue
		}
		c := *sa
		c.Bitmap = []uint32{0xdeadbeef, 0x0badcafe, 0x12345678, 0x9}[:max(1, sa.BitmapLen)]
		c.Bytes, c.Packets = 123456, 789
		c.Used, c.UseAge = true, 0
		mustApply(t, k, sadb.Op{Kind: sadb.OpSetCounters, SA: &c})
		writeFixture(out, fmt.Sprintf("bitmap-%x", sa.Key.SPI), rawSAs(t)[i])
	}
}

func writeFixture(out *bytes.Buffer, name string, raw []byte) {
	fmt.Fprintf(out, "%s %s\n", name, hex.EncodeToString(raw))
}

// newest returns the first message that skip does not reject: dumps list SAs
// newest first.
func newest(t *testing.T, raw [][]byte, skip func([]byte) bool) []byte {
	t.Helper()
	for _, r := range raw {
		if !skip(r) {
			return r
		}
	}
	t.Fatal("nothing in the dump")
	return nil
}

func isProto(proto byte) func([]byte) bool {
	return func(raw []byte) bool { return raw[76] == proto }
}

// compareFixture compares line by line, leaving out the dates at the given
// offsets.
func compareFixture(t *testing.T, name string, got []byte, dates ...int) {
	t.Helper()
	if *update {
		// The guest sees the source read-only: the file appears where the
		// harness keeps artifacts.
		path := filepath.Join(fixtures, name)
		if harness.Guest() {
			path = filepath.Join(harness.ArtifactDir(), name)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(filepath.Join(fixtures, name))
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	if len(g) != len(w) {
		t.Fatalf("%s has %d lines, want %d", name, len(g), len(w))
	}
	for i := range g {
		if a, b := undate(t, g[i], dates), undate(t, w[i], dates); a != b {
			t.Errorf("%s line %d:\nkernel  %s\nfixture %s", name, i+1, a, b)
		}
	}
}

func undate(t *testing.T, line string, dates []int) string {
	name, digits, ok := strings.Cut(line, " ")
	if !ok {
		return line
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, at := range dates {
		binary.NativeEndian.PutUint64(raw[at:], 0)
	}
	return name + " " + hex.EncodeToString(raw)
}
