package wire

import (
	"encoding/binary"
	"fmt"
)

// Limits of lists, beside those of bodies.
const (
	maxGroups = 256
	maxVIPs   = 256
	maxReason = 512
	maxBye    = 1024

	// MaxDemotion is the largest sum of demotions that an election knows.
	MaxDemotion = 255
)

func (m *Hello) appendBody(b []byte) (_ []byte, err error) {
	b = binary.BigEndian.AppendUint16(b, m.Min)
	b = binary.BigEndian.AppendUint16(b, m.Max)
	b = binary.BigEndian.AppendUint64(b, m.Caps)
	b = append(b, m.Node[:]...)
	b = append(b, m.Boot[:]...)
	b = binary.BigEndian.AppendUint64(b, m.Nonce)
	if b, err = appendName(b, m.Kernel); err != nil {
		return b, fmt.Errorf("kernel release: %w", err)
	}
	b = appendBool(b, m.BigEndian)
	if b, err = appendName(b, m.Arch); err != nil {
		return b, fmt.Errorf("architecture: %w", err)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(m.WallUnix))
	b = appendBool(binary.BigEndian.AppendUint32(b, m.Gen), m.Move)
	if len(m.Groups) > maxGroups {
		return b, fmt.Errorf("%d groups exceed %d", len(m.Groups), maxGroups)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Groups)))
	for i := range m.Groups {
		if b, err = appendGroup(b, &m.Groups[i]); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (m *Hello) parseBody(r *reader) {
	m.Min, m.Max, m.Caps = r.u16("lowest version"), r.u16("highest version"), r.u64("capabilities")
	m.Node, m.Boot, m.Nonce = r.id("node"), r.id("boot"), r.u64("nonce")
	m.Kernel, m.BigEndian, m.Arch = r.name("kernel release"), r.bool("byte order"), r.name("architecture")
	m.WallUnix = int64(r.u64("clock"))
	m.Gen, m.Move = r.u32("generation"), r.bool("move")
	n := int(r.u16("groups"))
	if n > maxGroups {
		r.fail("%d groups exceed %d", n, maxGroups)
	}
	for range n {
		g := r.group()
		if r.err != nil {
			return
		}
		m.Groups = append(m.Groups, g)
	}
}

// appendGroup appends a group behind its length, so that fields can be added.
func appendGroup(b []byte, g *GroupState) (_ []byte, err error) {
	at := len(b) + 2
	if b, err = appendName(append(b, 0, 0), g.Name); err != nil {
		return b, fmt.Errorf("group: %w", err)
	}
	if len(g.VIPs) > maxVIPs {
		return b, fmt.Errorf("group %s: %d addresses exceed %d", g.Name, len(g.VIPs), maxVIPs)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(g.VIPs)))
	for _, a := range g.VIPs {
		b = appendAddr(b, a)
	}
	b = append(b, byte(g.Role))
	b = binary.BigEndian.AppendUint64(b, g.Term)
	b = appendBool(b, g.InSync)
	if b, err = appendPos(b, &g.Have); err != nil {
		return b, err
	}
	b = appendText(b, g.Reason, maxReason)
	if g.Received != 0 {
		b = binary.BigEndian.AppendUint64(b, g.Received)
	}
	binary.BigEndian.PutUint16(b[at-2:], uint16(len(b)-at))
	return b, nil
}

func (r *reader) group() (g GroupState) {
	e := reader{b: r.take(int(r.u16("group length")), "group"), err: r.err}
	g.Name = e.name("group name")
	n := int(e.u16("addresses"))
	if n > maxVIPs {
		e.fail("%d addresses exceed %d", n, maxVIPs)
	}
	for i := 0; i < n && e.err == nil; i++ {
		a := e.addr("address")
		if e.err == nil && !a.IsValid() {
			e.fail("address %d is empty", i)
		}
		g.VIPs = append(g.VIPs, a)
	}
	if g.Role = Role(e.u8("role")); g.Role > RoleMaster {
		e.fail("role %d", g.Role)
	}
	g.Term, g.InSync, g.Have = e.term(), e.bool("in sync"), e.pos()
	g.Reason = e.text("reason")
	if len(e.b) > 0 { // as the first senders never wrote it
		if g.Received = e.u64("received"); g.Received == 0 && e.err == nil {
			e.fail("received packets of 0 are not written")
		}
	}
	if e.err != nil {
		r.fail("group: %w", e.err)
	}
	return g
}

func appendStream(b []byte, s *StreamID) (_ []byte, err error) {
	if b, err = appendName(b, s.Group); err != nil {
		return b, fmt.Errorf("group: %w", err)
	}
	b = binary.BigEndian.AppendUint64(b, s.Term)
	b = append(b, s.Node[:]...)
	return binary.BigEndian.AppendUint64(b, s.Nonce), nil
}

func (r *reader) stream() StreamID {
	return StreamID{r.name("group name"), r.term(), r.id("node"), r.u64("nonce")}
}

func appendPos(b []byte, p *StreamPos) (_ []byte, err error) {
	if b, err = appendStream(b, &p.StreamID); err != nil {
		return b, err
	}
	b = binary.BigEndian.AppendUint64(b, p.Seq)
	return appendBool(b, p.Complete), nil
}

func (r *reader) pos() StreamPos {
	return StreamPos{r.stream(), r.u64("position"), r.bool("complete")}
}

func (m *State) appendBody(b []byte) ([]byte, error) { return appendGroup(b, &m.GroupState) }
func (m *State) parseBody(r *reader)                 { m.GroupState = r.group() }

func (m *Request) appendBody(b []byte) (_ []byte, err error) {
	if b, err = appendName(b, m.Group); err != nil {
		return b, fmt.Errorf("group: %w", err)
	}
	return appendPos(b, &m.Have)
}

func (m *Request) parseBody(r *reader) { m.Group, m.Have = r.name("group name"), r.pos() }

func (m *Resume) appendBody(b []byte) (_ []byte, err error) {
	if b, err = appendStream(binary.BigEndian.AppendUint32(b, m.Stream), &m.ID); err != nil {
		return b, err
	}
	return binary.BigEndian.AppendUint64(b, m.Seq), nil
}

func (m *Resume) parseBody(r *reader) {
	m.Stream, m.ID, m.Seq = r.u32("stream"), r.stream(), r.u64("position")
}

func (m *SnapBegin) appendBody(b []byte) (_ []byte, err error) {
	if b, err = appendStream(binary.BigEndian.AppendUint32(b, m.Stream), &m.ID); err != nil {
		return b, err
	}
	b = binary.BigEndian.AppendUint64(b, m.Seq)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, m.SAs), m.Policies), nil
}

func (m *SnapBegin) parseBody(r *reader) {
	m.Stream, m.ID, m.Seq = r.u32("stream"), r.stream(), r.u64("position")
	m.SAs, m.Policies = r.u32("sas"), r.u32("policies")
}

func (m *SnapEnd) appendBody(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, m.Stream), m.Seq)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, m.SAs), m.Policies), nil
}

func (m *SnapEnd) parseBody(r *reader) {
	m.Stream, m.Seq = r.u32("stream"), r.u64("position")
	m.SAs, m.Policies = r.u32("sas"), r.u32("policies")
}

func (m *Ack) appendBody(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, m.Stream), m.Seq)
	b = appendBool(binary.BigEndian.AppendUint64(b, m.Epoch), m.SnapDone)
	return binary.BigEndian.AppendUint32(b, m.Installed), nil
}

func (m *Ack) parseBody(r *reader) {
	m.Stream, m.Seq, m.Epoch = r.u32("stream"), r.u64("position"), r.u64("epoch")
	m.SnapDone, m.Installed = r.bool("snapshot done"), r.u32("installed")
}

func (m *Ping) appendBody(b []byte) ([]byte, error) {
	return binary.BigEndian.AppendUint64(b, m.Token), nil
}
func (m *Ping) parseBody(r *reader) { m.Token = r.u64("token") }
func (m *Pong) appendBody(b []byte) ([]byte, error) {
	return binary.BigEndian.AppendUint64(b, m.Token), nil
}
func (m *Pong) parseBody(r *reader) { m.Token = r.u64("token") }

func (m *Bye) appendBody(b []byte) ([]byte, error) {
	return appendText(binary.BigEndian.AppendUint16(b, uint16(m.Code)), m.Text, maxBye), nil
}

func (m *Bye) parseBody(r *reader) {
	m.Code, m.Text = ByeCode(r.u16("code")), r.text("text")
	if len(m.Text) > maxBye {
		r.fail("text of %d bytes exceeds %d", len(m.Text), maxBye)
	}
}

func (m *Handover) appendBody(b []byte) (_ []byte, err error) {
	if b, err = appendName(b, m.Group); err != nil {
		return b, fmt.Errorf("group: %w", err)
	}
	return binary.BigEndian.AppendUint64(b, m.Term), nil
}

func (m *Handover) parseBody(r *reader) { m.Group, m.Term = r.name("group name"), r.term() }

func (m *Fitness) appendBody(b []byte) (_ []byte, err error) {
	if b, err = appendName(b, m.Group); err != nil {
		return b, fmt.Errorf("group: %w", err)
	}
	if m.Demotion < 0 || m.Demotion > MaxDemotion {
		return b, fmt.Errorf("demotion of %d is not within 0 and %d", m.Demotion, MaxDemotion)
	}
	return appendBool(binary.BigEndian.AppendUint16(b, uint16(m.Demotion)), m.Willing), nil
}

func (m *Fitness) parseBody(r *reader) {
	m.Group, m.Demotion, m.Willing = r.name("group name"), int(r.u16("demotion")), r.bool("willing")
	if m.Demotion > MaxDemotion {
		r.fail("demotion of %d exceeds %d", m.Demotion, MaxDemotion)
	}
}

func (m *Gossip) appendBody(b []byte) ([]byte, error) { return append(b, m.Payload...), nil }
func (m *Gossip) parseBody(r *reader)                 { m.Payload = append([]byte(nil), r.rest()...) }

func (m *Unknown) appendBody(b []byte) ([]byte, error) { return b, ErrUnknownType }
func (m *Unknown) parseBody(r *reader)                 { r.rest() }
