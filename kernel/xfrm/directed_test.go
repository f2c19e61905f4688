package xfrm

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// TestDirectedRoundTripIsByteExact decodes SAs of each form with a direction, as kernels that have
// directions dump them, and encodes them again. tests/conformance has recorded the files, has the
// kernel make the SAs again from what is decoded, and says what the forms are.
func TestDirectedRoundTripIsByteExact(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "directed-*.bin"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%d recordings, error %v; want those of two releases", len(files), err)
	}
	e := encoder{ifindex: testIndex}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in, out, esn, keepalives, cpus := 0, 0, 0, 0, 0
			for rest := netlink.Messages(b); ; {
				m, ok := rest.Next()
				if !ok {
					break
				}
				now := recordedAt(m.Payload, saCurrent+16)
				sa, err := newDecoder(testName).sa(m.Payload, now)
				if err != nil {
					t.Fatal(err)
				}
				got, err := e.appendSA(nil, sa, 0xe5000007, now)
				if err != nil {
					t.Fatal(err)
				}
				if want := cloneSA(m.Payload, 0xe5000007); !bytes.Equal(got, want) {
					t.Errorf("%s: encoded\n%x, want\n%x", sa.Key, got, want)
				}
				if len(sa.Unknown) > 0 {
					t.Errorf("%s: unknown attributes %v", sa.Key, sa.Unknown)
				}
				switch {
				case sa.KernelDir == sadb.DirIn:
					in++
				case sa.KernelDir == sadb.DirOut:
					out++
				}
				if sa.KernelDir == sadb.DirOut && sa.ESN() && sa.Window == 0 && sa.BitmapLen == 0 {
					esn++
				}
				if sa.Keepalive == 20 {
					keepalives++
				}
				if sa.PCPU != nil && *sa.PCPU == 0 {
					cpus++
				}
			}
			if in < 8 || out < 9 || esn < 2 || keepalives == 0 || cpus < 3 {
				t.Errorf("%d inbound and %d outbound SAs, %d of them with ESN, %d with keepalives, %d of a CPU: a form "+
					"is missing", in, out, esn, keepalives, cpus)
			}
		})
	}
}

// TestRingWithoutWords: replay state of no words without ESN, which a kernel takes, is not the legacy
// window. It is kept as unknown, so that the SA is refused, and its counters are not set.
func TestRingWithoutWords(t *testing.T) {
	raw := oneFixture(t, "sas.hex", "gcm-32bit-tunnel4")[:sizeSA]
	raw = netlink.AppendAttr(raw, attrReplayESN, make([]byte, sizeReplayESN))
	sa, err := newDecoder(testName).sa(raw, recordedAt(raw, saCurrent+16))
	if err != nil {
		t.Fatal(err)
	}
	if len(sa.Unknown) != 1 || sa.Unknown[0].Type != attrReplayESN {
		t.Errorf("unknown attributes %v, want the replay state", sa.Unknown)
	}
	e := encoder{ifindex: testIndex}
	if _, err := e.appendSA(nil, sa, 1, 1); err == nil {
		t.Error("such an SA is encoded")
	}
	if _, err := appendCounters(nil, sa, 1); err == nil {
		t.Error("counters of such an SA are encoded")
	}
}

// TestMigrationIsAResync: neither message says what the tables have become.
func TestMigrationIsAResync(t *testing.T) {
	for _, typ := range []uint16{msgMigrate, msgMigrateState} {
		ev, ok, err := newDecoder(testName).event(netlink.Message{Type: typ, Payload: make([]byte, 140)}, 0, 1)
		if err != nil || !ok || ev.Kind != sadb.EventResync || ev.Reason != "migrate" {
			t.Errorf("message %#x: %+v, ok %v, error %v", typ, ev, ok, err)
		}
	}
}
