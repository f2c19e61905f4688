package kerneltest

import (
	"time"

	"sasyncd/sync/sadb"
)

// The real kernel looks at an SA's or a policy's time limits a second after it
// was made and then whenever the next limit is due. What it then finds by the
// wall clock decides.

func (t *tables) schedule(s *sa, after time.Duration) {
	if s.timer != nil {
		s.timer.Stop()
	}
	l := s.Limits
	if l.SoftAdd|l.HardAdd|l.SoftUse|l.HardUse == 0 {
		return
	}
	s.timer = time.AfterFunc(after, func() { t.checkSA(s) })
}

func (t *tables) checkSA(s *sa) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.locate(s.Key) != s {
		return
	}
	now := t.now().Unix()
	hard, soft, next := judge(s.Limits, now, s.added, s.used)
	switch {
	case hard:
		t.removeSA(s)
		t.announce(sadb.Event{Kind: sadb.EventExpireSA, SA: s.view(now), Hard: true}, 0)
		return
	case soft && !s.dying:
		s.dying = true
		t.announce(sadb.Event{Kind: sadb.EventExpireSA, SA: s.view(now)}, 0)
	}
	t.schedule(s, next)
}

func (t *tables) schedulePolicy(p *policy, after time.Duration) {
	if p.timer != nil {
		p.timer.Stop()
	}
	l := p.Limits
	if l.SoftAdd|l.HardAdd|l.SoftUse|l.HardUse == 0 {
		return
	}
	p.timer = time.AfterFunc(after, func() { t.checkPolicy(p) })
}

func (t *tables) checkPolicy(p *policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.findPolicy(p.Key) != p {
		return
	}
	now := t.now().Unix()
	hard, soft, next := judge(p.Limits, now, p.added, p.used)
	switch {
	case hard:
		t.removePolicy(p)
		t.announce(sadb.Event{Kind: sadb.EventExpirePolicy, Policy: p.view(now), Hard: true}, 0)
		return
	case soft && !p.dying:
		p.dying = true
		t.announce(sadb.Event{Kind: sadb.EventExpirePolicy, Policy: p.view(now)}, 0)
	}
	t.schedulePolicy(p, next)
}

// judge says which limits have passed and when to look again.
func judge(l sadb.Limits, now, added, used int64) (hard, soft bool, next time.Duration) {
	next = time.Minute
	look := func(limit uint64, since int64, passed *bool) {
		if limit == 0 || since == 0 {
			return
		}
		left := since + int64(limit) - now
		if left <= 0 {
			*passed = true
			return
		}
		next = min(next, time.Duration(left)*time.Second)
	}
	look(l.HardAdd, added, &hard)
	look(l.HardUse, used, &hard)
	look(l.SoftAdd, added, &soft)
	look(l.SoftUse, used, &soft)
	return hard, soft, next
}
