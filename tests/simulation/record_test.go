package simulation

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/sync/wire"
)

var update = flag.Bool("update", false, "record the stream of this protocol version anew")

// recordedStream is what two gateways of protocol version 1 said to each other:
// snapshot, deltas, counters, a hand-over. Every later version must read it.
const recordedStream = "testdata/stream-v1.hex"

// recorder keeps the frames of one history.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (s *sim) record(node int, frame []byte) {
	if s.recorder == nil {
		return
	}
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	s.recorder.lines = append(s.recorder.lines, fmt.Sprintf("%d %s", node, hex.EncodeToString(frame)))
}

// TestRecordedStreamIsUnderstood reads the recorded stream with today's code and
// writes it again: not a byte may differ.
func TestRecordedStreamIsUnderstood(t *testing.T) {
	if *update {
		r := &recorder{}
		run(t, 1, 2, func(s *sim) {
			s.recorder = r
			s.pass(12 * time.Second)
			for range 3 {
				s.add()
			}
			s.pass(2 * time.Second)
			s.rekey()
			s.pass(2 * time.Second)
			s.cut(0, 1)
			s.pass(2 * time.Second)
			s.master().Resign("", "recorded")
			s.pass(3 * time.Second)
		})
		if err := os.WriteFile(recordedStream, []byte(strings.Join(r.lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	src, err := os.ReadFile(recordedStream)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[wire.Type]int)
	for i, line := range strings.Split(strings.TrimSpace(string(src)), "\n") {
		_, text, _ := strings.Cut(line, " ")
		frame, err := hex.DecodeString(text)
		if err != nil || len(frame) < wire.HeaderLen {
			t.Fatalf("line %d: not a frame: %v", i+1, err)
		}
		m, err := wire.Parse(wire.Type(frame[4]), frame[wire.HeaderLen:])
		if err != nil {
			t.Errorf("line %d: %v", i+1, err)
			continue
		}
		again, err := wire.AppendFrame(nil, m)
		if err != nil || string(again) != string(frame) {
			t.Errorf("line %d: %s is written differently today", i+1, m.Type())
		}
		seen[m.Type()]++
	}
	for _, typ := range []wire.Type{wire.TypeState, wire.TypeRequest, wire.TypeSnapBegin, wire.TypeBatch,
		wire.TypeSnapEnd,
		wire.TypeResume, wire.TypeAck, wire.TypeCounters, wire.TypeHandover, wire.TypeMaxima, wire.TypeDigest} {
		if seen[typ] == 0 {
			t.Errorf("the record has no %s message", typ)
		}
	}
}
