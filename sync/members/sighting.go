package members

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sasyncd/sync/wire"
)

// Role is what a member says that it is in a group.
type Role struct {
	Group string `json:"group"` // name, printable, at most 255 bytes
	Role  string `json:"role"`  // MASTER, BACKUP or INIT
	Term  uint64 `json:"term"`
}

// Sighting is what a member without a session says of itself by way of another.
type Sighting struct {
	Node wire.NodeID // who says it
	Via  wire.NodeID // the neighbour that passed it on
	At   time.Time   // when it came
	// Roles are those of its groups. They must not be changed.
	Roles []Role
}

// Fresh is for how long a sighting shows that a member is alive. One comes every
// second, so several have to be lost.
const Fresh = 5 * time.Second

// Bounds of what a member says.
const (
	wordEvery   = time.Second
	wordVersion = 1 // of Claim.Words: the member takes words
	maxWord     = 16 << 10
	maxRoles    = 128
	maxName     = 255
	maxAddrs    = 32
)

// word is the data of a frame of kind word.
type word struct {
	Roles []Role `json:"roles"`
}

// parseWord reads the data of a frame of kind word. It holds what a member says to
// its bounds: what is kept is short and can be shown to an operator.
func parseWord(b []byte) ([]Role, error) {
	if len(b) > maxWord {
		return nil, fmt.Errorf("%d bytes of at most %d", len(b), maxWord)
	}
	var w word
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("read what a member says: %w", err)
	}
	if len(w.Roles) > maxRoles {
		return nil, fmt.Errorf("%d groups of at most %d", len(w.Roles), maxRoles)
	}
	for _, r := range w.Roles {
		if !tidy(r.Group) || !role(r.Role) {
			return nil, errors.New("a group or a role that there cannot be")
		}
	}
	return w.Roles, nil
}

// tidy reports whether s is short and printable.
func tidy(s string) bool { return len(s) <= maxName && wire.Printable(s) }

// role reports whether s names a role.
func role(s string) bool {
	for _, r := range []wire.Role{wire.RoleMaster, wire.RoleBackup, wire.RoleInit} {
		if s == r.String() {
			return true
		}
	}
	return false
}

// speaker tells the members to which there is no session, every second, what this
// node is.
func (m *Members) speaker() {
	tick := time.NewTicker(wordEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
			m.speak()
		}
	}
}

func (m *Members) speak() {
	if m.cfg.Roles == nil {
		return
	}
	w := word{Roles: m.cfg.Roles()}
	b, err := json.Marshal(w)
	for err == nil && (len(b) > maxWord || len(w.Roles) > maxRoles) {
		w.Roles = w.Roles[:min(len(w.Roles)/2, maxRoles)]
		b, err = json.Marshal(w)
	}
	if err != nil {
		return // there is nothing in it that could not be encoded
	}
	for _, x := range m.Known() {
		if x.Alive && !x.Direct && x.Claim.Words >= wordVersion {
			m.tr.route(x.Node, frame(frameWord, maxHops, x.Node, m.cfg.Node, 0, b))
		}
	}
}

// heard takes what a member says of itself by way of a neighbour.
func (m *Members) heard(from, via wire.NodeID, data []byte) {
	roles, err := parseWord(data)
	if err != nil {
		m.tr.refused.Add(1)
		m.cfg.Log.Debug("what a member says is refused", "node", from.String(), "via", via.String(), "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[from]; !ok { // so that they are as few as the members
		m.tr.refused.Add(1)
		return
	}
	m.seen[from] = Sighting{Node: from, Via: via, At: m.now(), Roles: roles}
}

// Sighted returns the members without a session that have said something lately, by
// node id. Their Seen says what.
func (m *Members) Sighted() []Member {
	return slices.DeleteFunc(m.Known(), func(x Member) bool { return x.Direct || m.now().Sub(x.Seen.At) > Fresh })
}
