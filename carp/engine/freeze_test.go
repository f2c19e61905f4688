package engine

import (
	"errors"
	"os"
	"testing"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/link"
)

// fakeFreezer keeps one entry.
type fakeFreezer struct {
	term  uint64
	until time.Duration
}

func (f *fakeFreezer) Frozen(string) (uint64, time.Duration) { return f.term, f.until }
func (f *fakeFreezer) Thaw(string) error                     { f.term, f.until = 0, 0; return nil }
func (f *fakeFreezer) Freeze(_ string, term uint64, until time.Duration) error {
	f.term, f.until = term, until
	return nil
}

// VRRPv3 peers are told to wait as long as the restart may take, others cannot be.
func TestFrozenInterval(t *testing.T) {
	e, _ := testEngine(t, nil)
	r := e.routers[0]
	if got := r.interval(0); got != 250*time.Millisecond {
		t.Errorf("not frozen: %v", got)
	}
	r.group.frozenTo = 10 * time.Second
	if got := r.interval(time.Second); got != 3*time.Second {
		t.Errorf("frozen for 9s more: %v", got)
	}
	if got := r.interval(9900 * time.Millisecond); got != 250*time.Millisecond {
		t.Errorf("shortly before the end: %v", got)
	}
	r.group.frozenTo = 10 * time.Minute
	if got := r.interval(0); got != 40950*time.Millisecond {
		t.Errorf("more than fits: %v", got)
	}
	r.Machine.Proto = carp.VRRP2
	if got := r.interval(0); got != 250*time.Millisecond {
		t.Errorf("version 2: %v", got)
	}
}

// What was left behind is silenced unless it is still valid.
func TestInherit(t *testing.T) {
	for name, tc := range map[string]struct {
		f    fakeFreezer
		rest int
	}{
		"nothing": {fakeFreezer{}, 1},
		"expired": {fakeFreezer{3, 5 * time.Second}, 1},
		"valid":   {fakeFreezer{3, 15 * time.Second}, 0},
	} {
		e, _ := testEngine(t, nil)
		e.deps.Freezer = &tc.f
		if got := e.inherit(10 * time.Second); len(got) != tc.rest {
			t.Errorf("%s: %d groups are silenced", name, len(got))
		}
	}
}

// After a reboot the addresses are gone, whatever is written down.
func TestInheritAfterReboot(t *testing.T) {
	e, f := testEngine(t, nil)
	e.deps.Freezer = &fakeFreezer{3, 15 * time.Second}
	f.fail = errors.New("not there")
	if got := e.inherit(10 * time.Second); len(got) != 1 {
		t.Errorf("%d groups are silenced", len(got))
	}
}

// A backup may always be frozen; without a state directory a master may not.
func TestFreezeRefused(t *testing.T) {
	e, _ := testEngine(t, nil)
	var got error
	e.freeze(e.groups[0], 0, time.Second, func(err error) { got = err })
	if got == nil {
		t.Error("frozen without a place to write it down")
	}
	e.deps.Freezer = &fakeFreezer{}
	e.freeze(e.groups[0], 0, time.Second, func(err error) { got = err })
	if got != nil {
		t.Errorf("backup: %v", got)
	}
}

func TestClock(t *testing.T) {
	var c clock
	const now = time.Second
	for _, offset := range []time.Duration{100 * time.Hour, 100*time.Hour + time.Millisecond,
		100*time.Hour - time.Millisecond} {
		c.compare(now, offset)
	}
	if r := c.report(now); r.Jumps != 0 {
		t.Errorf("slewing is a jump: %+v", r)
	}
	c.compare(now, 99*time.Hour)
	c.compare(2*now, 99*time.Hour)
	if r := c.report(3 * now); *r != (api.Clock{Jumps: 1, LastMS: -3600000 + 1, AgeMS: 2000}) {
		t.Errorf("%+v", r)
	}
}

func TestSendDoesNotAllocate(t *testing.T) {
	e, _ := testEngine(t, nil)
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := e.routers[0]
	r.port.Use(int(f.Fd()))
	for name, frozen := range map[string]time.Duration{"normal": 0, "frozen": link.BootTime() + time.Hour} {
		r.group.frozenTo = frozen
		if n := testing.AllocsPerRun(200, func() {
			if err := e.send(r, carp.Action{Kind: carp.ActAdvert, Priority: 100}); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per advertisement", name, n)
		}
	}
	if r.tx.Load() == 0 {
		t.Error("nothing was sent")
	}
}

// What is refused is counted without allocating either: anybody can send it.
func TestRefuseDoesNotAllocate(t *testing.T) {
	e, _ := testEngine(t, nil)
	b := advert(t, nil)
	b[14+20+7]++ // checksum
	e.packet(e.routers[0].port, time.Second, b)
	if n := testing.AllocsPerRun(200, func() { e.packet(e.routers[0].port, time.Second, b) }); n > 0 {
		t.Errorf("%v allocations per refused advertisement", n)
	}
	if x := e.routers[0].refusals; x == [warnings]refusal{} {
		t.Error("not counted")
	}
}
