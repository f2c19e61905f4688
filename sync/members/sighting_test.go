package members

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/memberlist"

	"sasyncd/sync/wire"
)

// sees returns the sighting of n that m has now, nil for none.
func sees(m *Members, n byte) *Sighting {
	for _, x := range m.Sighted() {
		if x.Node == id(n) {
			return &x.Seen
		}
	}
	return nil
}

// TestMasterIsSeenByWayOfAnother: 1 and 3 have sessions with 2 only. Each hears from
// the other what it is, until the way is cut, or they meet.
func TestMasterIsSeenByWayOfAnother(t *testing.T) {
	c := newCluster(t)
	roles := []Role{{"outside", "MASTER", 7}, {"inside", "BACKUP", 3}}
	c.roles = map[wire.NodeID][]Role{id(3): roles}
	one, two := c.add(1), c.add(2)
	c.add(3)
	c.link(1, 2, true)
	c.link(2, 3, true)
	eventually(t, "1 sees 3", func() bool { return sees(one, 3) != nil })
	x := sees(one, 3)
	if x.Via != id(2) || time.Since(x.At) > Fresh || cmp.Diff(roles, x.Roles) != "" {
		t.Errorf("1 sees %+v", x)
	}
	if x := sees(two, 3); x != nil {
		t.Errorf("2 has a session with 3, and sees %+v", x)
	}
	c.link(2, 3, false)
	eventually(t, "1 does not see 3 any more", func() bool { return sees(one, 3) == nil })
	c.link(2, 3, true)
	eventually(t, "1 sees 3 again", func() bool { return sees(one, 3) != nil })
	c.link(1, 3, true)
	if x := sees(one, 3); x != nil {
		t.Errorf("with a session 1 sees %+v", x)
	}
}

// known returns a Members that knows members 2 (a neighbour) and 3, without gossip.
func known(t *testing.T) *Members {
	t.Helper()
	m := idle(Config{Node: id(1), Log: slog.New(slog.DiscardHandler)})
	m.tr.setNeighbour(id(2), true)
	for _, n := range []byte{2, 3} {
		delegate{m}.NotifyJoin(&memberlist.Node{Name: id(n).String(), Meta: []byte(`{"host":"gw","words":1}`)})
	}
	return m
}

// TestWordsAreRefused: what a member cannot be is not kept, and counted.
func TestWordsAreRefused(t *testing.T) {
	many, err := json.Marshal(word{Roles: make([]Role, maxRoles+1)})
	if err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		from byte
		data string
	}{
		"no JSON":            {3, "{"},
		"escape in the name": {3, `{"roles":[{"group":"out\u001b[2J","role":"MASTER"}]}`},
		"direction":          {3, `{"roles":[{"group":"\u202eside","role":"MASTER"}]}`},
		"long name":          {3, `{"roles":[{"group":"` + strings.Repeat("x", maxName+1) + `","role":"MASTER"}]}`},
		"no role":            {3, `{"roles":[{"group":"outside","role":"KING"}]}`},
		"negative term":      {3, `{"roles":[{"group":"outside","role":"MASTER","term":-1}]}`},
		"many groups":        {3, string(many)},
		"too long":           {3, `{"roles":[]}` + strings.Repeat(" ", maxWord)},
		"of nobody known":    {5, `{"roles":[{"group":"outside","role":"MASTER"}]}`},
		"of this node":       {1, `{"roles":[{"group":"outside","role":"MASTER"}]}`},
	} {
		m := known(t)
		m.Receive(id(2), frame(frameWord, 0, id(1), id(tt.from), 0, []byte(tt.data)))
		if len(m.Sighted()) != 0 || m.Refused() != 1 {
			t.Errorf("%s: %+v, refused %d", what, m.Sighted(), m.Refused())
		}
	}
	m := known(t)
	m.Receive(id(2), frame(frameWord, 0, id(1), id(3), 0,
		[]byte(`{"roles":[{"group":"outside","role":"MASTER","term":7}],"later":1}`)))
	if x := sees(m, 3); x == nil || m.Refused() != 0 {
		t.Errorf("a good one: %+v, refused %d", x, m.Refused())
	}
}

// TestSightingsGrowOld: who is silent is seen for Fresh and no longer.
func TestSightingsGrowOld(t *testing.T) {
	m := known(t)
	now := time.Now()
	m.now = func() time.Time { return now }
	m.Receive(id(2), frame(frameWord, 0, id(1), id(3), 0, []byte(`{"roles":[]}`)))
	for age, want := range map[time.Duration]bool{0: true, Fresh: true, Fresh + 1: false} {
		m.now = func() time.Time { return now.Add(age) }
		if got := sees(m, 3) != nil; got != want {
			t.Errorf("after %v: seen is %v", age, got)
		}
	}
}

// TestWordsGoToWhoTakesThem: a member of a version that does not know words gets none.
func TestWordsGoToWhoTakesThem(t *testing.T) {
	for meta, want := range map[string]int{`{"host":"new","words":1}`: 1, `{"host":"newer","words":2}`: 1,
		`{"host":"old"}`: 0} {
		sent := 0
		m := idle(Config{Node: id(1), Log: slog.New(slog.DiscardHandler),
			Roles: func() []Role { return []Role{{"outside", "MASTER", 1}} },
			Send: func(to wire.NodeID, b []byte) bool {
				if to != id(2) || b[0] != frameWord || wire.NodeID(b[2:18]) != id(3) {
					t.Errorf("%s: to %s: %x", meta, to, b)
				}
				sent++
				return true
			}})
		m.tr.setNeighbour(id(2), true)
		delegate{m}.NotifyJoin(&memberlist.Node{Name: id(2).String(), Meta: []byte(`{"host":"relay","words":1}`)})
		delegate{m}.NotifyJoin(&memberlist.Node{Name: id(3).String(), Meta: []byte(meta)})
		if m.speak(); sent != want {
			t.Errorf("%s: %d words, want %d", meta, sent, want)
		}
	}
}

// FuzzWord: whatever a member says by way of another.
func FuzzWord(f *testing.F) {
	f.Add([]byte(`{"roles":[{"group":"outside","role":"MASTER","term":7}]}`))
	f.Add([]byte(`{"roles":[{"group":"\u001b[2J","role":"BACKUP"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		roles, err := parseWord(b)
		if err != nil {
			return
		}
		for _, r := range roles {
			if !wire.Printable(r.Group) || len(r.Group) > maxName || !role(r.Role) {
				t.Errorf("%+v is kept", r)
			}
		}
	})
}
