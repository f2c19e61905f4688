package scenario

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"sasyncd/carp/api"
	"sasyncd/sync/engine"
	"sasyncd/tests/ask"
	"sasyncd/tests/harness"
)

// askLimit ends a question to a daemon that hangs.
const askLimit = 5 * time.Second

// pollEvery is the pause between questions while waiting for a state: each
// costs both the guest and the daemon.
const pollEvery = 50 * time.Millisecond

// ask sends one request to the member's sasyncd.
func (m *Member) ask(verb string, v any) error { return Ask(m.Socket(), verb, v) }

// Ask sends one request to sasyncd's control socket and decodes the answer's
// data into v, which may be nil where none is expected. The protocol is newline
// JSON: a request, lines with data, a last line without.
func Ask(socket, verb string, v any) error {
	c, err := net.DialTimeout("unix", socket, harness.Scaled(askLimit))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(harness.Scaled(askLimit))); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "{\"verb\":%q}\n", verb); err != nil {
		return err
	}
	sc := bufio.NewScanner(c)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var r struct {
			Data  json.RawMessage
			OK    bool
			Error string
		}
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			return fmt.Errorf("read answer to %s: %w", verb, err)
		}
		switch {
		case r.Error != "":
			return fmt.Errorf("%s: %s", verb, r.Error)
		case r.OK:
			return nil
		}
		if err := json.Unmarshal(r.Data, v); err != nil {
			return fmt.Errorf("read answer to %s: %w", verb, err)
		}
	}
	if err := sc.Err(); err != nil {
		return err
	}
	return errors.New(verb + ": the connection was closed without an answer")
}

// Status asks sasyncd for its status.
func (m *Member) Status() (engine.Status, error) {
	var s engine.Status
	err := m.ask("status", &s)
	return s, err
}

// group returns sasyncd's only group.
func (m *Member) group() (engine.GroupStatus, error) {
	s, err := m.Status()
	if err != nil {
		return engine.GroupStatus{}, err
	}
	if len(s.Groups) != 1 {
		return engine.GroupStatus{}, fmt.Errorf("%s: sasyncd has %d groups, want 1", m.Name, len(s.Groups))
	}
	return s.Groups[0], nil
}

// verdict is the answer to "would a failover work now?".
type verdict struct {
	Fit     bool
	Reasons []struct{ Code, What, Remedy string }
}

// fit reports whether a failover would work as far as can be told: of an election that
// sasyncd sees the results of (tracker address, tracker link) nobody can tell more.
func (v *verdict) fit() bool {
	for _, r := range v.Reasons {
		if r.Code != "election-unknown" {
			return false
		}
	}
	return v.Fit || len(v.Reasons) > 0
}

// wait asks until cond holds or the limit has passed; then the test ends, with
// what was last heard.
func (m *Member) wait(limit time.Duration, what string, cond func() (done bool, heard string)) {
	m.pair.t.Helper()
	limit = harness.Scaled(limit)
	heard := ""
	for start := time.Now(); ; time.Sleep(pollEvery) {
		var done bool
		if done, heard = cond(); done {
			return
		}
		if time.Since(start) > limit {
			break
		}
	}
	m.pair.t.Fatalf("%s: waited %v in vain for %s; last heard: %s", m.Name, limit, what, heard)
}

// WaitRole waits until sasyncd knows that it is "MASTER" or "BACKUP".
func (m *Member) WaitRole(role string) {
	m.pair.t.Helper()
	m.wait(roleLimit, "the role "+role, func() (bool, string) {
		g, err := m.group()
		return err == nil && g.Role == role, fmt.Sprintf("role %q, error %v", g.Role, err)
	})
}

// WaitInSync waits until this gateway is a BACKUP whose kernel is complete.
func (m *Member) WaitInSync() {
	m.pair.t.Helper()
	m.wait(syncLimit, "being a BACKUP in sync", func() (bool, string) {
		g, err := m.group()
		return err == nil && g.Role == "BACKUP" && g.InSync && (g.SAs > 0 || len(m.pair.Tunnels) == 0),
			fmt.Sprintf("role %q, in sync %v (%s), %d SAs, error %v", g.Role, g.InSync, g.Why, g.SAs, err)
	})
}

// WaitCheck waits until "sasyncctl check" would be content.
func (m *Member) WaitCheck() {
	m.pair.t.Helper()
	m.wait(syncLimit, "a clean check", func() (bool, string) {
		v, err := m.check()
		return err == nil && v.fit(), fmt.Sprintf("%v, error %v", v.Reasons, err)
	})
}

// Fit reports whether "sasyncctl check" would be content.
func (m *Member) Fit() bool {
	v, err := m.check()
	return err == nil && v.fit()
}

func (m *Member) check() (v verdict, err error) {
	err = m.ask("check", &v)
	return v, err
}

// Elected asks carpd for the state of the group.
func (m *Member) Elected() (api.GroupState, error) {
	msg, err := m.carpd(api.Request{Verb: api.VerbStatus})
	if err != nil {
		return api.GroupState{}, err
	}
	for _, g := range msg.Groups {
		if g.Group == Group {
			return g, nil
		}
	}
	return api.GroupState{}, fmt.Errorf("%s: carpd does not know group %s", m.Name, Group)
}

// Resign hands mastership over, as "carpctl resign" does.
func (m *Member) Resign() {
	m.pair.t.Helper()
	if _, err := m.carpd(api.Request{Verb: api.VerbResign, Group: Group, Reason: "asked for"}); err != nil {
		m.pair.t.Fatalf("%s: resign: %v", m.Name, err)
	}
}

// Lead waits until the gateway is MASTER. If another one was faster, as may be on
// a busy machine, that hands over. Only for tests in which the SAs are not there
// yet, or are there on both.
func (m *Member) Lead() {
	m.pair.t.Helper()
	m.wait(roleLimit, "the role MASTER", func() (bool, string) {
		g, err := m.group()
		if err == nil && g.Role == "MASTER" {
			return true, ""
		}
		for _, o := range m.pair.Masters() {
			if o != m {
				// Refused while the gateway is not fit; then it is asked again.
				_, _ = o.carpd(api.Request{Verb: api.VerbResign, Group: Group, Reason: "asked for"})
			}
		}
		return false, fmt.Sprintf("role %q, error %v", g.Role, err)
	})
}

// Freeze announces a restart of carpd within limit, as "carpctl freeze" does.
func (m *Member) Freeze(limit time.Duration) {
	m.pair.t.Helper()
	if _, err := m.carpd(api.Request{Verb: api.VerbFreeze, HoldMS: harness.Scaled(limit).Milliseconds()}); err != nil {
		m.pair.t.Fatalf("%s: freeze: %v", m.Name, err)
	}
}

// Demote makes the gateway a lesser master, as "carpctl demote" does, until the
// returned function is called.
func (m *Member) Demote(by int) (undo func()) {
	m.pair.t.Helper()
	order := func(verb string, d api.Demotion) {
		m.pair.t.Helper()
		if _, err := m.carpd(api.Request{Verb: verb, Group: Group, Demotion: &d}); err != nil {
			m.pair.t.Fatalf("%s: %s: %v", m.Name, verb, err)
		}
	}
	d := api.Demotion{ID: "maintenance", By: by, Hold: api.HoldPersistent}
	order(api.VerbDemote, d)
	return func() { m.pair.t.Helper(); order(api.VerbUndemote, d) }
}

func (m *Member) carpd(r api.Request) (api.Message, error) {
	return ask.Carpd(m.CarpdSocket(), r, harness.Scaled(askLimit))
}

// Masters returns the gateways whose carpd is MASTER now.
func (p *Pair) Masters() []*Member {
	var list []*Member
	for _, m := range p.Members {
		if g, err := m.Elected(); err == nil && g.State == api.StateMaster {
			list = append(list, m)
		}
	}
	return list
}
