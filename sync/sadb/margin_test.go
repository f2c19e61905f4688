package sadb

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestAheadCoversWhatWasSent drives an SA at random, bursting rates, reports
// its counter at each interval with random loss and delay of reports, kills
// the master at a random moment and checks that the standby's counter was
// already beyond everything the master sent, and acceptable to the receiver.
func TestAheadCoversWhatWasSent(t *testing.T) {
	m := DefaultMargin()
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		esn := seed%2 == 0
		var sent, held uint64
		var rate Rate
		limit := 200_000.0 // packets per second that the minimum lead must bear
		if esn {
			limit = 1_000_000
		}
		pps := rng.Float64() * 1000
		end := time.Duration(rng.IntN(60000)) * time.Millisecond
		lost := 0
		for now := time.Duration(0); now < end; now += time.Second {
			if rng.IntN(10) == 0 {
				pps = rng.Float64() * limit // an idle SA may burst at once
			}
			sent += uint64(pps)
			if rng.IntN(5) == 0 && lost < 2 {
				lost++
				continue
			}
			lost = 0
			rate.Report(sent, now)
			lead, _ := m.Lead(esn, rate.Peak(), 0)
			if v, _ := Ahead(esn, sent, lead); v > held {
				held = v
			}
		}
		sent += uint64(pps * 1.9) // rest of the interval and the detection time
		if held != 0 && held < sent {
			t.Fatalf("seed %d: standby at %d, master sent %d", seed, held, sent)
		}
		if held != 0 && held-sent >= 1<<31 && held > sent {
			t.Fatalf("seed %d: jump of %d is more than a receiver accepts", seed, held-sent)
		}
	}
}

func TestLeadLimits(t *testing.T) {
	m := DefaultMargin()
	for _, tc := range []struct {
		name    string
		esn     bool
		peak    float64
		stale   time.Duration
		lead    uint64
		covered bool
	}{
		{"idle ESN", true, 0, 0, 67108864, true},
		{"idle legacy", false, 0, 0, 1048576, true},
		{"fast ESN", true, 15e6, 0, 4 * 15e6 * 2, true},
		{"fast ESN, master silent for 30 s", true, 15e6, 30 * time.Second, 4 * 15e6 * 32, true},
		{"too fast and silent for too long", true, 15e6, 60 * time.Second, 1<<31 - 1, false},
		{"fast legacy", false, 1e6, 0, 8e6, true},
	} {
		lead, covered := m.Lead(tc.esn, tc.peak, tc.stale)
		if lead != tc.lead || covered != tc.covered {
			t.Errorf("%s: got %d %v, want %d %v", tc.name, lead, covered, tc.lead, tc.covered)
		}
	}
	for _, tc := range []struct {
		name    string
		esn     bool
		oseq    uint64
		lead    uint64
		want    uint64
		covered bool
	}{
		{"ESN across the low word", true, 1<<32 - 5, 100, 1<<32 + 95, true},
		{"legacy", false, 1000, 1048576, 1049576, true},
		{"legacy near its end", false, 0xEFFFFFFF, 1048576, MaxLegacy, false},
		{"legacy beyond its end", false, 0xFFFFFFF0, 1048576, 0xFFFFFFF0, false},
	} {
		got, covered := Ahead(tc.esn, tc.oseq, tc.lead)
		if got != tc.want || covered != tc.covered {
			t.Errorf("%s: got %#x %v, want %#x %v", tc.name, got, covered, tc.want, tc.covered)
		}
	}
}

func TestSecretNeverPrints(t *testing.T) {
	key := []byte("0123456789abcdefSECRET")
	s := NewSecret(key)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", s, "sa", &SA{AEAD: &Algorithm{Key: s}})
	type holder struct{ S Secret }
	out := log.String() + fmt.Sprintf("%v %+v %#v %s %x %X %q %d %v %+v %#v", s, s, s, s, s, s, s, s,
		Algorithm{Key: s}, holder{s}, holder{s})
	for _, leak := range []string{"SECRET", "012345", "5345435245", "83, 69", "83 69"} {
		if strings.Contains(out, leak) {
			t.Errorf("%q shows in %s", leak, out)
		}
	}
	if !strings.Contains(out, "<secret 22 bytes>") {
		t.Errorf("no placeholder in %s", out)
	}
}

// TestForgotten: a node that has lost its memory raises its counters far, and however
// often that happens, numbers are left.
func TestForgotten(t *testing.T) {
	m := DefaultMargin()
	if got := m.Forgotten(false, 1000); got != 1000+1<<28 {
		t.Errorf("32 bits: %d", got)
	}
	if got := m.Forgotten(true, 1<<40); got != 1<<40+1<<30 {
		t.Errorf("64 bits: %d", got)
	}
	if twice := m.Forgotten(true, m.Forgotten(true, 0)); twice > MaxLeadESN {
		t.Errorf("two in a row raise by %d, a receiver accepts %d", twice, MaxLeadESN)
	}
	at := uint64(0)
	for range 20 {
		next := m.Forgotten(false, at)
		if least, _ := m.Retired(false, at, 0, 0); next < least {
			t.Errorf("from %d to %d, want at least %d", at, next, least)
		}
		at = next
	}
	if at > MaxLegacy*95/100 {
		t.Errorf("after 20 restarts the counter stands at %d of %d", at, MaxLegacy)
	}
	if got := m.Forgotten(false, MaxLegacy+5); got != MaxLegacy+5 {
		t.Errorf("near the end: %d", got)
	}
}
