package members

import (
	"encoding/binary"
	"testing"

	"sasyncd/sync/wire"
)

// alive is memberlist's packet that says that a node is alive: the type, then a
// map in MessagePack.
func alive(node string) []byte {
	text := func(b []byte, s string) []byte { return append(append(b, 0xd9, byte(len(s))), s...) }
	blob := func(b, v []byte) []byte { return append(append(b, 0xc4, byte(len(v))), v...) }
	b := []byte{4, 0x86}
	b = append(text(b, "Incarnation"), 1)
	b = text(text(b, "Node"), node)
	b = blob(text(b, "Addr"), make([]byte, 16))
	b = append(text(b, "Port"), 1)
	b = blob(text(b, "Meta"), nil)
	return blob(text(b, "Vsn"), []byte{1, 5, 2, 0, 0, 0})
}

// TestInventedMembersAreBounded: a neighbour that tells of thousands is believed
// about a few, and the rest is counted.
func TestInventedMembersAreBounded(t *testing.T) {
	c := &cluster{t: t, nodes: make(map[wire.NodeID]*Members), links: make(map[[2]wire.NodeID]bool)}
	m := c.add(1)
	m.Receive(id(9), frame(framePacket, 0, id(1), id(9), 0, alive(id(2).String())))
	eventually(t, "an invented member is known", func() bool { return knows(m, 2) != nil })
	const many = 2000
	for i := range many {
		var n wire.NodeID
		binary.BigEndian.PutUint64(n[:], uint64(1000+i))
		m.Receive(id(9), frame(framePacket, 0, id(1), id(9), 0, alive(n.String())))
		if i%50 == 49 { // no faster than they are read
			eventually(t, "the packets are read", func() bool { return len(m.tr.packets) == 0 })
		}
	}
	m.Receive(id(9), frame(framePacket, 0, id(1), id(9), 0, alive("no node id")))
	eventually(t, "all to be judged", func() bool {
		// On a slow machine some are found to be dead meanwhile, and make room for others.
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.known)+m.forgotten+int(m.Refused()) >= many+2
	})
	if n := len(m.Known()); n != maxMembers {
		t.Errorf("%d members are known, want %d", n, maxMembers)
	}
	if n := m.list.NumMembers(); n > maxMembers+1 {
		t.Errorf("gossip has %d members", n)
	}
}

// TestRefusedFramesAreCounted: everything that is dropped shows.
func TestRefusedFramesAreCounted(t *testing.T) {
	for what, b := range map[string][]byte{
		"nothing":               nil,
		"short":                 make([]byte, frameHead-1),
		"unknown kind":          frame(77, 0, id(1), id(9), 0, nil),
		"for a stranger":        frame(framePacket, 1, id(50), id(9), 0, []byte("x")),
		"data without a side":   frame(frameData, 0, id(1), id(9), 3, nil),
		"for one too far away":  frame(framePacket, 0, id(2), id(9), 0, []byte("x")),
		"in this node's name":   frame(framePacket, 1, id(2), id(1), 0, []byte("x")),
		"the same stream twice": frame(frameOpen, 0, id(1), id(9), 5, nil),
	} {
		t.Run(what, func(t *testing.T) {
			c := &cluster{t: t, nodes: make(map[wire.NodeID]*Members), links: make(map[[2]wire.NodeID]bool)}
			m := c.add(1)
			if what == "the same stream twice" {
				m.Receive(id(9), b)
			}
			before := m.Refused()
			m.Receive(id(9), b)
			if n := m.Refused() - before; n != 1 {
				t.Errorf("counted %d times", n)
			}
		})
	}
}
