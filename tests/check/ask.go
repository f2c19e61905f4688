package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"sasyncd/carp/api"
	"sasyncd/sync/engine"
	"sasyncd/tests/ask"
	"sasyncd/tests/harness"
	"sasyncd/tests/scenario"
)

// How long an answer must stay the same to count, and how long it may take to
// become the one that is wanted. What a member sees of another comes every second,
// and a session ends after 3 s of silence, so a yes must outlast that.
const (
	calm        = 2 * time.Second
	calmYes     = 6 * time.Second
	answerLimit = 30 * time.Second
	askEvery    = 700 * time.Millisecond
)

// verdict is what check prints with -j.
type verdict struct {
	Answer            string
	Reasons, Warnings []struct{ Code, Severity, Group, Member, What string }
}

// answers is what check says on each member, in the order of the gateways.
type answers struct {
	said  []string
	codes []string // of all members, "severity code", sorted, each once
	text  []string // of all findings, for people
}

// wanted reports whether the answers are those of the situation.
func (a *answers) wanted(it *Situation) bool {
	return Combined(a.said) == it.Want && (it.Code == "" || slices.ContainsFunc(a.codes, func(c string) bool {
		_, code, _ := strings.Cut(c, " ")
		return code == it.Code
	}))
}

func (a *answers) same(b *answers) bool { return slices.Equal(a.said, b.said) }

func (a *answers) String() string {
	return strings.Join(a.said, ", ") + "\n" + strings.Join(a.text, "\n")
}

// check asks the member's sasyncd as sasyncctl does. It is nil if it does not answer.
func (m *Member) check() *verdict {
	if !on(m.Sasyncd) || m.hangs {
		return nil
	}
	v := new(verdict)
	if err := scenario.Ask(m.socket(), "check", v); err != nil {
		return nil
	}
	return v
}

// said is what check answers.
func (m *Member) said() string {
	if v := m.check(); v != nil {
		return v.Answer
	}
	return None
}

// ask asks all members.
func (s *Site) ask() *answers {
	a := new(answers)
	for _, m := range s.Members {
		v := m.check()
		if v == nil {
			a.said = append(a.said, None)
			continue
		}
		a.said = append(a.said, v.Answer)
		for _, p := range append(v.Reasons, v.Warnings...) {
			if c := p.Severity + " " + p.Code; !slices.Contains(a.codes, c) {
				a.codes = append(a.codes, c)
			}
			a.text = append(a.text, fmt.Sprintf("on %s: %s %s: %s: %s", m.Name, p.Severity, p.Code, p.Member, p.What))
		}
	}
	slices.Sort(a.codes)
	return a
}

// fit waits until check says yes everywhere, which is so before each fault; or that it
// cannot tell, where an election shows no more than its results.
func (s *Site) fit() {
	s.t.Helper()
	var last *answers
	limit := time.Now().Add(harness.Scaled(startLimit))
	for {
		if last = s.ask(); !slices.ContainsFunc(last.said, func(a string) bool {
			return a != Yes &&
				(a != Unknown || s.it.carpd())
		}) {
			return
		}
		if time.Now().After(limit) {
			s.t.Fatalf("before the fault check does not say yes: %v", last)
		}
		time.Sleep(harness.Scaled(askEvery))
	}
}

// steady asks until the answer is the wanted one, on all members where that is not
// yes, and stays the same, or does not become that within a limit; then it is what it
// is.
func (s *Site) steady() *answers {
	s.t.Helper()
	began := time.Now()
	last, since := s.ask(), began
	need := calm
	if s.it.Want == Yes {
		need = calmYes
	}
	for {
		now := time.Now()
		agreed := last.wanted(s.it) && (s.it.Want == Yes || !slices.Contains(last.said, Yes))
		if now.Sub(since) >= harness.Scaled(need) && (agreed || now.Sub(began) > harness.Scaled(answerLimit)) {
			return s.confirm(last)
		}
		time.Sleep(harness.Scaled(askEvery))
		if a := s.ask(); !a.same(last) {
			last, since = a, time.Now()
		} else {
			last = a
		}
	}
}

// confirm has the program itself asked on each member: what it prints, and its
// exit code.
func (s *Site) confirm(a *answers) *answers {
	s.t.Helper()
	codes := map[string]int{Yes: 0, No: 1, Unknown: 3}
	for i, m := range s.Members {
		if a.said[i] == None {
			continue
		}
		out, code := m.ctl("sasyncctl", "-s", m.socket(), "-j", "check")
		var v verdict
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			s.t.Errorf("%s: sasyncctl -j check printed %q: %v", m.Name, out, err)
			continue
		}
		if v.Answer != a.said[i] || code != codes[v.Answer] {
			s.t.Errorf("%s: sasyncctl check says %q with exit code %d, and the daemon said %q", m.Name, v.Answer, code,
				a.said[i])
		}
	}
	return a
}

// ctl runs a control program on the gateway and returns its output and exit code.
func (m *Member) ctl(program string, args ...string) (out string, code int) {
	m.site.t.Helper()
	bin, err := harness.Binary(program)
	if err != nil {
		m.site.t.Fatalf("%v", err)
	}
	out, err = m.Try(bin + " " + strings.Join(args, " "))
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		if out == "" {
			out = err.Error()
		}
		return out, e.ExitCode()
	} else if err != nil {
		m.site.t.Fatalf("%v", err)
	}
	return out, 0
}

// askCarpd sends one request to the member's carpd.
func (m *Member) askCarpd(r api.Request) (api.Message, error) {
	return ask.Carpd(m.carpdSocket(), r, harness.Scaled(askLimit))
}

// elected asks carpd for the state of the group that moves the instance outside.
func (m *Member) elected() (string, error) {
	msg, err := m.askCarpd(api.Request{Verb: api.VerbStatus})
	if err != nil {
		return "", err
	}
	for _, g := range msg.Groups {
		if slices.ContainsFunc(g.Instances, func(in api.InstanceState) bool { return in.Name == scenario.Instance }) {
			return strings.ToUpper(g.State), nil
		}
	}
	return "", nil
}

// role is what the member's election says that it is; "" if it cannot be asked.
func (m *Member) role() string {
	if m.site.it.carpd() {
		if !on(m.Carpd) {
			return ""
		}
		state, err := m.elected()
		if err != nil {
			return ""
		}
		return state
	}
	if !on(m.Sasyncd) {
		return ""
	}
	var st engine.Status
	if err := scenario.Ask(m.socket(), "status", &st); err != nil || len(st.Groups) == 0 {
		return ""
	}
	return st.Groups[0].Role
}

// masters are the members that say of themselves that they are MASTER.
func (s *Site) masters() (list []*Member) {
	roles := make([]string, len(s.Members))
	var asked sync.WaitGroup
	for i, m := range s.Members {
		asked.Go(func() { roles[i] = m.role() })
	}
	asked.Wait()
	for i, m := range s.Members {
		if roles[i] == "MASTER" {
			list = append(list, m)
		}
	}
	return list
}
