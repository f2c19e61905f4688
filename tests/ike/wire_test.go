package ike

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// message is one IKE packet on the wire.
type message struct {
	at       time.Time
	from     *lab.Port
	exchange uint8
	request  bool
	id       uint32
}

func (m message) String() string {
	return fmt.Sprintf("%s from %s: exchange %d, request %v, id %d", m.at.Format("15:04:05.000"), m.from.Node.Name,
		m.exchange, m.request, m.id)
}

// wire is a capture that keeps IKE packets too.
type wire struct {
	*capture.Capture
	mu   sync.Mutex
	msgs []message
}

func watch(t *testing.T, p *scenario.Pair) *wire {
	w := &wire{}
	w.Capture = capture.Start(t, capture.Config{Ports: p.WANPorts(), Inner: lab.Inner(), Watch: w.packet})
	return w
}

func (w *wire) packet(p *capture.Packet) {
	const protoUDP = 17
	if p.Proto != protoUDP || p.IsESP || len(p.Frame) < 14+20 {
		return
	}
	at := 14 + int(p.Frame[14]&15)*4
	if p.Src.Is6() {
		at = 14 + 40
	}
	if len(p.Frame) < at+8 {
		return
	}
	src, dst := binary.BigEndian.Uint16(p.Frame[at:]), binary.BigEndian.Uint16(p.Frame[at+2:])
	b := p.Frame[at+8:]
	switch {
	case src == 500 || dst == 500:
	case (src == 4500 || dst == 4500) && len(b) > 4:
		b = b[4:] // the non-ESP marker
	default:
		return
	}
	const header = 28
	if len(b) < header {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.msgs = append(w.msgs, message{p.At, p.Port, b[18], b[19]&0x20 == 0, binary.BigEndian.Uint32(b[20:])})
}

// ike returns the IKE packets of a node in a period.
func (w *wire) ike(from *lab.Port, a, b time.Time) []message {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []message
	for _, m := range w.msgs {
		if m.from == from && !m.at.Before(a) && m.at.Before(b) {
			out = append(out, m)
		}
	}
	return out
}

// requireNoIKE fails the test if a node has spoken IKE in a period.
func (w *wire) requireNoIKE(t *testing.T, from *lab.Port, a, b time.Time, when string) {
	t.Helper()
	if msgs := w.ike(from, a, b); len(msgs) != 0 {
		t.Errorf("%s sent %d IKE packets %s, first %v", from.Node.Name, len(msgs), when, msgs[0])
	}
}

// requireNoReplays fails the test if a node has thrown packets away for their
// sequence number.
func requireNoReplays(t *testing.T, nodes ...*lab.Node) {
	t.Helper()
	for _, nd := range nodes {
		if st := nd.XfrmStat(); lab.Refused(nil, st) != 0 {
			t.Errorf("%s has refused packets: %v", nd.Name, st)
		}
	}
}

// requireNoDelete fails the test if the remote was told to give up an IKE SA.
func requireNoDelete(t *testing.T, remote *charon) {
	t.Helper()
	for line := range strings.Lines(remote.log()) {
		if strings.Contains(line, "received DELETE for IKE_SA") {
			t.Errorf("the remote was told to delete: %s", line)
		}
	}
}
