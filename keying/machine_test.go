package keying

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

var epoch = time.Unix(1_000_000, 0)

func hushed(term uint64, settled bool, waiter int) Event {
	return Event{Kind: EventPassive, PassiveOrder: PassiveOrder{Term: term, Settled: settled}, Waiter: waiter}
}

func activated(term uint64) Event { return Event{Kind: EventActive, Plan: Plan{Term: term}} }

// situations lead a fresh machine, term 5, to each place it can be in.
var situations = []struct {
	name string
	path []Event
}{
	{"boot", nil},
	{"passivating, call 1, 7 waits", []Event{hushed(5, false, 7)}},
	{"passivating, failed", []Event{hushed(5, false, 0), {Kind: EventDone, Call: 1, Err: errors.New("no")}}},
	{"passive", []Event{hushed(5, false, 0), {Kind: EventDone, Call: 1}}},
	{"passive, settled", []Event{hushed(5, true, 0), {Kind: EventDone, Call: 1}}},
	{"activating, call 1", []Event{activated(5)}},
	{"activating, failed", []Event{activated(5), {Kind: EventDone, Call: 1, Err: errors.New("no")}}},
	{"active", []Event{activated(5), {Kind: EventDone, Call: 1}}},
	{"activating, passive call 1 under way", []Event{hushed(5, false, 7), activated(5)}},
	{"passivating, active call 1 cancelled, 7 waits", []Event{activated(5), hushed(5, false, 7)}},
	{"active, daemon lost", []Event{activated(5), {Kind: EventDone, Call: 1}, {Kind: EventLost}}},
}

var stimuli = []struct {
	name string
	ev   Event
	at   time.Duration
}{
	{"order passive, older term", hushed(4, false, 9), 0},
	{"order passive, same term", hushed(5, false, 9), 0},
	{"order passive, settled", hushed(5, true, 9), 0},
	{"order passive, newer term", hushed(6, false, 9), 0},
	{"order active, older term", activated(4), 0},
	{"order active, same term", activated(5), 0},
	{"order active, newer term", activated(6), 0},
	{"call 1 done", Event{Kind: EventDone, Call: 1}, 0},
	{"call 1 failed", Event{Kind: EventDone, Call: 1, Err: errors.New("no")}, 0},
	{"call 99 done", Event{Kind: EventDone, Call: 99}, 0},
	{"daemon lost", Event{Kind: EventLost}, 0},
	{"daemon back", Event{Kind: EventBack}, 0},
	{"tick, early", Event{Kind: EventTick}, firstRetry - 1},
	{"tick, due", Event{Kind: EventTick}, firstRetry},
}

func (a Action) text() string {
	switch a.Kind {
	case ActionPassive:
		return fmt.Sprintf("call %d: passive term %d settled %v", a.Call, a.PassiveOrder.Term, a.PassiveOrder.Settled)
	case ActionActive:
		return fmt.Sprintf("call %d: active term %d", a.Call, a.Plan.Term)
	case ActionCancel:
		return fmt.Sprintf("cancel call %d", a.Call)
	case ActionAnswer:
		return fmt.Sprintf("answer %d: %v", a.Waiter, a.Err)
	}
	return fmt.Sprintf("action %d", a.Kind)
}

// TestMachineTable holds every reaction in every situation to a reviewed file.
func TestMachineTable(t *testing.T) {
	var b strings.Builder
	for _, s := range situations {
		fmt.Fprintf(&b, "%s\n", s.name)
		for _, st := range stimuli {
			var m Machine
			for _, ev := range s.path {
				m.Step(epoch, ev)
			}
			acts := m.Step(epoch.Add(st.at), st.ev)
			fmt.Fprintf(&b, "    %-28s %s", st.name, m.State())
			if d := m.Deadline(); !d.IsZero() {
				fmt.Fprintf(&b, ", again after %v", d.Sub(epoch))
			}
			for _, a := range acts {
				fmt.Fprintf(&b, "; %s", a.text())
			}
			b.WriteByte('\n')
		}
	}
	const file = "testdata/machine.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("reactions changed; if that is meant: go test -update (-want +got)\n%s", d)
	}
}

// TestRetriesGrow: what fails is repeated for ever, ever more slowly up to a limit.
func TestRetriesGrow(t *testing.T) {
	var m Machine
	now := epoch
	m.Step(now, activated(1))
	last := time.Duration(0)
	for call := 1; call < 40; call++ {
		m.Step(now, Event{Kind: EventDone, Call: call, Err: errors.New("no")})
		pause := m.Deadline().Sub(now)
		if pause < last || pause > lastRetry {
			t.Fatalf("pause %v after %v", pause, last)
		}
		last, now = pause, m.Deadline()
		if acts := m.Step(now, Event{Kind: EventTick}); len(acts) != 1 || acts[0].Call != call+1 {
			t.Fatalf("at the deadline: %+v", acts)
		}
	}
	if last != lastRetry {
		t.Errorf("pauses end at %v, want %v", last, lastRetry)
	}
}

// FuzzMachine feeds arbitrary orders and answers, and checks what must hold
// whatever comes: one call at a time, each waiter told once, terms never fall,
// and after the last order the machine comes to rest where it asked to be.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 9, 1, 17, 3, 2, 2, 4, 5, 5})
	f.Add([]byte{8, 8, 3, 1, 2, 3, 9, 16, 2})
	f.Fuzz(func(t *testing.T, in []byte) {
		var m Machine
		now, term, waiter := epoch, uint64(1), 0
		call, told := 0, map[int]int{}
		lastPassive := false
		step := func(ev Event) {
			before := m.Term()
			if ev.Kind == EventDone && ev.Call == call {
				call = 0
			}
			for _, a := range m.Step(now, ev) {
				switch a.Kind {
				case ActionPassive, ActionActive:
					if call != 0 {
						t.Fatalf("call %d begins while %d is under way", a.Call, call)
					}
					call = a.Call
				case ActionCancel:
					if call != a.Call {
						t.Fatalf("call %d is cancelled, %d is under way", a.Call, call)
					}
				case ActionAnswer:
					told[a.Waiter]++
				}
			}
			if m.Term() < before {
				t.Fatalf("term fell from %d to %d", before, m.Term())
			}
		}
		for _, b := range in {
			term += uint64(b >> 3 & 1)
			asked := term - min(term, uint64(b>>4&1))
			switch b & 7 {
			case 0, 6:
				waiter++
				step(hushed(asked, b&32 != 0, waiter))
				lastPassive = lastPassive && asked < m.Term() || asked == m.Term()
			case 1:
				step(activated(asked))
				lastPassive = lastPassive && asked < m.Term()
			case 2:
				step(Event{Kind: EventDone, Call: call})
			case 3:
				step(Event{Kind: EventDone, Call: call, Err: errors.New("no")})
			case 4:
				step(Event{Kind: EventLost})
			case 5:
				step(Event{Kind: EventBack})
			case 7:
				now = now.Add(time.Second)
				step(Event{Kind: EventTick})
			}
		}
		for range 10 {
			now = now.Add(lastRetry)
			step(Event{Kind: EventTick})
			if call != 0 {
				step(Event{Kind: EventDone, Call: call})
			}
		}
		want := Active
		if m.State() == Boot || lastPassive {
			want = m.State()
			if want != Boot && want != Passive {
				t.Errorf("comes to rest %v, was last told to be passive", want)
			}
		}
		if m.State() != want {
			t.Errorf("comes to rest %v, want %v", m.State(), want)
		}
		for id := 1; id <= waiter; id++ {
			if told[id] != 1 {
				t.Errorf("waiter %d was told %d times", id, told[id])
			}
		}
	})
}
