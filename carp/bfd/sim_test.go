package bfd

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// end is one side of a simulated link.
type end struct {
	*Session
	cfg     Config
	lost    float64       // share of what it sends
	sent    time.Duration // its latest packet that was no answer
	ups     int
	downs   []time.Duration
	heardAt time.Duration
}

// link is two sessions in virtual time, with what is on its way between them.
type link struct {
	t       *testing.T
	random  *rand.Rand
	now     time.Duration
	ends    [2]*end
	flying  []flight
	latest  [2]time.Duration // when something last arrives at an end: a single hop keeps the order
	refused int
}

type flight struct {
	at   time.Duration
	to   int
	data []byte
}

func newLink(t *testing.T, seed uint64, configs ...Config) *link {
	t.Helper()
	l := &link{t: t, random: rand.New(rand.NewPCG(seed, 1))}
	for i, c := range configs {
		c.Discr, c.Random = uint32(i+1), l.random.Float64
		l.ends[i] = &end{cfg: c, Session: New(0, c)}
	}
	return l
}

// send puts a packet on its way, and holds it against what a sender must keep.
func (l *link) send(from int, p *Packet) {
	e := l.ends[from]
	if p.Poll && p.Final || p.State != Up && p.DesiredMinTx < SlowInterval {
		l.t.Fatalf("end %d sends %+v", from, p)
	}
	if l.random.Float64() >= e.lost {
		way := time.Millisecond + time.Duration(l.random.IntN(2000))*time.Microsecond
		to := 1 - from
		l.latest[to] = max(l.latest[to], l.now+way)
		l.flying = append(l.flying, flight{l.latest[to], to, p.Append(nil)})
	}
}

// note counts changes of state.
func (l *link) note(e *end, before State) {
	switch after := e.Status().State; {
	case before != Up && after == Up:
		e.ups++
	case before == Up && after != Up:
		e.downs = append(e.downs, l.now)
	}
}

// run lets time pass.
func (l *link) run(d time.Duration) {
	l.t.Helper()
	for stop := l.now + d; ; {
		next := stop
		for _, e := range l.ends {
			next = min(next, e.Deadline())
		}
		for _, f := range l.flying {
			next = min(next, f.at)
		}
		if next >= stop {
			l.now = stop
			return
		}
		l.now = next
		for i, e := range l.ends {
			before, periodic := e.Status().State, e.nextAt <= l.now
			if p, send := e.Tick(l.now); send {
				if gap := l.now - e.sent; periodic && e.sent > 0 && gap < e.Status().Transmit*3/4 && before == p.State {
					l.t.Fatalf("end %d sends after %v, and every %v at most", i, gap, e.Status().Transmit)
				}
				e.sent = l.now
				l.send(i, &p)
			}
			l.note(e, before)
		}
		var due []flight
		l.flying = slices.DeleteFunc(l.flying, func(f flight) bool {
			if f.at <= l.now {
				due = append(due, f)
			}
			return f.at <= l.now
		})
		for _, f := range due {
			l.arrive(f)
		}
	}
}

func (l *link) arrive(f flight) {
	p, err := Decode(f.data)
	if err != nil {
		l.t.Fatalf("a session sends what another refuses: %v", err)
	}
	e := l.ends[f.to]
	before := e.Status().State
	reply, send, err := e.Receive(l.now, &p)
	if err != nil { // of a session before
		l.refused++
		return
	}
	e.heardAt = l.now
	if send {
		l.send(f.to, &reply)
	}
	l.note(e, before)
}

// both fails unless both are in a state.
func (l *link) both(when string, want State) {
	l.t.Helper()
	for i, e := range l.ends {
		if st := e.Status(); st.State != want {
			l.t.Errorf("%s: end %d is %+v, want %v", when, i, st, want)
		}
	}
}

// Two sessions with different settings come Up, agree on the slower interval, lose
// each other within the detection time, in both directions or in one, and come back.
func TestTwoNodes(t *testing.T) {
	for seed := range uint64(20) {
		fast := Config{Interval: 50 * time.Millisecond, Multiplier: 3}
		slow := Config{Interval: 80 * time.Millisecond, Multiplier: 4}
		l := newLink(t, seed, fast, slow)
		a, b := l.ends[0], l.ends[1]
		l.run(4 * time.Second)
		l.both("at first", Up)
		if sa, sb := a.Status(), b.Status(); sa.Transmit != 80*time.Millisecond || sb.Transmit != 80*time.Millisecond ||
			sa.Detection != 320*time.Millisecond || sb.Detection != 240*time.Millisecond {
			t.Errorf("seed %d: agreed on %+v and %+v", seed, sa, sb)
		}
		if a.Session.polling || b.Session.polling {
			t.Errorf("seed %d: they still poll", seed)
		}
		l.run(time.Minute)
		if a.ups != 1 || b.ups != 1 || len(a.downs)+len(b.downs) > 0 {
			t.Fatalf("seed %d: Up %d and %d times, without a fault", seed, a.ups, b.ups)
		}

		a.lost, b.lost = 1, 1
		l.run(time.Second)
		l.both("cut", Down)
		for _, e := range l.ends {
			detection := 320 * time.Millisecond
			if e == b {
				detection = 240 * time.Millisecond
			}
			if got := e.downs[0] - e.heardAt; got != detection || e.Status().Diag != DetectionExpired {
				t.Errorf("seed %d: %v after the last packet, want %v (%v)", seed, got, detection, e.Status().Diag)
			}
		}
		a.lost, b.lost = 0, 0
		l.run(4 * time.Second)
		l.both("whole again", Up)

		// One direction: b hears nothing and says so, and a believes it.
		a.lost = 1
		l.run(time.Second)
		if sa, sb := a.Status(), b.Status(); sa.State == Up || sb.State == Up || sb.Heard || sb.Diag != DetectionExpired ||
			sa.NeighborDiag != DetectionExpired || len(a.downs) != 2 || a.downs[1]-b.downs[1] > 10*time.Millisecond {
			t.Errorf("seed %d: one direction lost: %+v and %+v", seed, sa, sb)
		}
		a.lost = 0
		l.run(4 * time.Second)
		l.both("both directions again", Up)
		if l.refused > 0 {
			t.Errorf("seed %d: %d packets were refused", seed, l.refused)
		}
	}
}

// Losses of three packets in ten may take a session down, and never keep it from
// coming Up again.
func TestLoss(t *testing.T) {
	for seed := range uint64(20) {
		same := Config{Interval: 50 * time.Millisecond, Multiplier: 3}
		l := newLink(t, seed, same, same)
		for _, e := range l.ends {
			e.lost = 0.3
		}
		l.run(time.Minute)
		for i, e := range l.ends {
			if e.ups == 0 {
				t.Errorf("seed %d: end %d never came Up", seed, i)
			}
		}
		for _, e := range l.ends {
			e.lost = 0
		}
		l.run(4 * time.Second)
		l.both("without losses", Up)
		ups := l.ends[0].ups
		l.run(time.Minute)
		l.both("a minute later", Up)
		if l.ends[0].ups != ups {
			t.Errorf("seed %d: it went down without a fault", seed)
		}
	}
}

// A multiplier of 1 holds without losses, as the jitter leaves a tenth of the
// interval for the way.
func TestMultiplierOfOne(t *testing.T) {
	one := Config{Interval: 100 * time.Millisecond, Multiplier: 1}
	l := newLink(t, 1, one, one)
	l.run(time.Minute)
	l.both("after a minute", Up)
	for i, e := range l.ends {
		if e.ups != 1 {
			t.Errorf("end %d came Up %d times", i, e.ups)
		}
	}
}

// A neighbor that starts anew, within the detection time, is noticed and found again.
func TestRestart(t *testing.T) {
	same := Config{Interval: 50 * time.Millisecond, Multiplier: 3}
	l := newLink(t, 3, same, same)
	l.run(4 * time.Second)
	l.both("at first", Up)
	b := l.ends[1]
	b.cfg.Discr = 77
	b.Session, b.sent = New(l.now, b.cfg), 0
	l.flying = nil
	l.run(50 * time.Millisecond)
	if a := l.ends[0]; len(a.downs) != 1 || a.Status().Diag != NoDiagnostic && a.Status().Diag != NeighborDown {
		t.Errorf("not noticed: %+v", a.Status())
	}
	l.run(4 * time.Second)
	l.both("after the restart", Up)
}
