package drills

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// stream is what one end of a TCP connection sent.
type stream struct {
	from, to netip.AddrPort
	segments map[uint32][]byte // by sequence number; of a retransmission the longest
}

// data returns the bytes in order.
func (s *stream) data() []byte {
	var seqs []uint32
	for seq := range s.segments {
		seqs = append(seqs, seq)
	}
	if len(seqs) == 0 {
		return nil
	}
	base := seqs[0] // numbers wrap: order them by their distance to any one
	slices.SortFunc(seqs, func(a, b uint32) int { return int(int32(a-base)) - int(int32(b-base)) })
	var b []byte
	next := seqs[0]
	for _, seq := range seqs {
		seg := s.segments[seq]
		if skip := int32(next - seq); skip > 0 {
			seg = seg[min(int(skip), len(seg)):]
		}
		if len(seg) > 0 {
			b = append(b, seg...)
			next = seq + uint32(len(s.segments[seq]))
		}
	}
	return b
}

// tap collects what is said on the sync link.
type tap struct {
	capture *capture.Capture
	mu      sync.Mutex
	streams map[[2]netip.AddrPort]*stream
}

func startTap(t *testing.T, p *scenario.Pair) *tap {
	t.Helper()
	tp := &tap{streams: map[[2]netip.AddrPort]*stream{}}
	var ports []*lab.Port
	for _, m := range p.Members {
		ports = append(ports, m.Sync)
	}
	tp.capture = capture.Start(t, capture.Config{Ports: ports, Bytes: 1 << 16, Watch: tp.packet})
	return tp
}

// packet keeps the payload of IPv4 TCP.
func (tp *tap) packet(p *capture.Packet) {
	const ethernet, tcp = 14, 6
	if p.Proto != tcp || !p.Src.Is4() {
		return
	}
	ip := p.Frame[ethernet:]
	ip = ip[:binary.BigEndian.Uint16(ip[2:])]
	seg := ip[int(ip[0]&15)*4:]
	from := netip.AddrPortFrom(p.Src, binary.BigEndian.Uint16(seg))
	to := netip.AddrPortFrom(p.Dst, binary.BigEndian.Uint16(seg[2:]))
	seq := binary.BigEndian.Uint32(seg[4:])
	payload := seg[int(seg[12]>>4)*4:]
	tp.mu.Lock()
	defer tp.mu.Unlock()
	key := [2]netip.AddrPort{from, to}
	if tp.streams[key] == nil {
		tp.streams[key] = &stream{from: from, to: to, segments: map[uint32][]byte{}}
	}
	if old := tp.streams[key].segments[seq]; len(payload) > len(old) {
		tp.streams[key].segments[seq] = bytes.Clone(payload)
	}
}

// stop ends the capture and returns all streams.
func (tp *tap) stop() []*stream {
	tp.capture.Stop()
	var list []*stream
	for _, s := range tp.streams {
		list = append(list, s)
	}
	return list
}

// secrets are what must not be readable on the sync link: keys, in binary and
// as text, SPIs, and the words of the trade.
func secrets(t *testing.T, p *scenario.Pair) map[string][]byte {
	t.Helper()
	list := map[string][]byte{}
	key := func(what, digits string) {
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("read key: %v", err)
		}
		list[what], list[what+" as text"] = b, []byte(digits)
		list[what+", its second half"] = b[len(b)/2:]
	}
	for _, m := range p.Members {
		key("the shared key", strings.TrimPrefix(m.Key, "0x"))
	}
	n := 0
	for word := range strings.FieldsSeq(p.RGW.Run("ip xfrm state")) {
		if digits, ok := strings.CutPrefix(word, "0x"); ok && len(digits) >= 40 {
			n++
			key(fmt.Sprintf("key %d", n), digits)
		}
	}
	if n != 6 { // two of AEAD, and two of each of cipher and authentication
		t.Fatalf("found %d keys in ip xfrm state, want 6", n)
	}
	for _, tn := range p.Tunnels {
		for _, spi := range []uint32{tn.SPIOut, tn.SPIIn} {
			list[fmt.Sprintf("SPI %#x", spi)] = binary.BigEndian.AppendUint32(nil, spi)
		}
	}
	for _, word := range []string{"rfc4106", "gcm(aes)", "cbc(aes)", "hmac(", scenario.Instance, scenario.Group} {
		list["the word "+word] = []byte(word)
	}
	return list
}

// found returns which secrets are in what was said.
func found(list map[string][]byte, streams []*stream) []string {
	var out []string
	for _, s := range streams {
		b := s.data()
		for what, secret := range list {
			if i := bytes.Index(b, secret); i >= 0 {
				out = append(out, fmt.Sprintf("%s is in what %v sent to %v, at byte %d of %d", what, s.from, s.to, i,
					len(b)))
			}
		}
		if text := printable(b); len(text) >= longText {
			out = append(out, fmt.Sprintf("text in what %v sent to %v: %q", s.from, s.to, text))
		}
	}
	return out
}

// longText is more printable characters in a row than chance makes of a
// megabyte: of random bytes 95 in 256 are.
const longText = 24

// printable returns the longest run of printable characters.
func printable(b []byte) (longest []byte) {
	start := 0
	for i := range len(b) + 1 {
		if i < len(b) && b[i] >= ' ' && b[i] <= '~' {
			continue
		}
		if i-start > len(longest) {
			longest = b[start:i]
		}
		start = i + 1
	}
	return longest
}

// Nothing that the gateways tell each other can be read on the link between them.
func TestSyncLinkIsOpaque(t *testing.T) {
	p := scenario.NewPair(t)
	tp := startTap(t, p)
	p.Start()
	gw1, gw2 := p.Members[0], p.Members[1]
	m, _ := traffic(t, p)
	flowing(t, m, rate)
	gw1.Resign()
	p.WaitFit(gw2)
	flowing(t, m, rate)
	m.Stop()
	streams := tp.stop()
	said := 0
	for _, s := range streams {
		said += len(s.data())
	}
	if said < 10_000 {
		t.Errorf("only %d bytes were captured between the gateways, which cannot be all", said)
	}
	list := secrets(t, p)
	for _, what := range found(list, streams) {
		t.Error(what)
	}

	// The detector detects: the same link, in the clear.
	tp = startTap(t, p)
	plain := []byte("sa rfc4106(gcm(aes)) ")
	for _, secret := range list {
		plain = append(plain, secret...)
	}
	sendPlain(t, gw1, gw2, plain)
	streams = tp.stop()
	seen := strings.Join(found(list, streams), "\n")
	for what := range list {
		if !strings.Contains(seen, what+" is in what "+gw1.SyncAddr.String()) {
			t.Errorf("%s was sent in the clear and not detected", what)
		}
	}
}

// sendPlain sends bytes over a connection from one gateway to the other, in
// several segments.
func sendPlain(t *testing.T, from, to *scenario.Member, b []byte) {
	t.Helper()
	var ln net.Listener
	err := to.Do(func() (err error) {
		ln, err = net.Listen("tcp", netip.AddrPortFrom(to.SyncAddr, 4000).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan []byte, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			got <- nil
			return
		}
		defer c.Close()
		all, _ := io.ReadAll(c) // an error shows in what is missing
		got <- all
	}()
	c := dial(t, from, netip.AddrPortFrom(to.SyncAddr, 4000))
	for part := range slices.Chunk(b, 100) {
		if _, err := c.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if !bytes.Equal(<-got, b) {
		t.Fatal("what was sent did not arrive")
	}
}

// dial connects from a gateway.
func dial(t *testing.T, from *scenario.Member, to netip.AddrPort) net.Conn {
	t.Helper()
	var c net.Conn
	err := from.Do(func() (err error) {
		d := net.Dialer{Timeout: limit, FallbackDelay: -1}
		c, err = d.Dial("tcp", to.String())
		return err
	})
	if err != nil {
		t.Fatalf("%s: connect to %v: %v", from.Name, to, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

const (
	syncPort  = 500
	challenge = 32 // bytes, of package channel
)

// Who lacks the key gets a challenge and a closed connection, whatever it says.
func TestStranger(t *testing.T) {
	p := scenario.NewPair(t)
	gw1, stranger := p.Members[0], p.Members[1] // at the configured peer's own address
	gw1.StartDaemons()
	for name, say := range map[string][]byte{
		"silent":       nil,
		"wrong answer": bytes.Repeat([]byte{7}, 32),
		"much":         bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 1000),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, stranger, netip.AddrPortFrom(gw1.SyncAddr, syncPort))
			if err := c.SetDeadline(time.Now().Add(harness.Scaled(limit))); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(say); err != nil && len(say) <= 32 {
				t.Error(err)
			}
			got, err := io.ReadAll(c)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection is still open after %v", harness.Scaled(limit))
			}
			// A reset may overtake the challenge when there is more to say than is read.
			if len(got) != challenge && (err == nil || len(got) > challenge) {
				t.Errorf("got %d bytes, want a challenge of %d: %x (%v)", len(got), challenge, got, err)
			}
		})
	}
	s, err := gw1.Status()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Members) != 0 {
		t.Errorf("gw1 has a member: %v", s.Members)
	}
}

// A gateway with another key is a stranger.
func TestOtherKey(t *testing.T) {
	p := scenario.NewPair(t)
	p.AloneAfter = 2 * time.Second
	gw1, gw2 := p.Members[0], p.Members[1]
	gw2.Key = scenario.NewKey()
	tp := startTap(t, p)
	gw1.StartDaemons()
	gw2.StartDaemons()
	for _, m := range p.Members {
		m.Sasyncd.WaitLog("refused a connection", limit)
		m.Sasyncd.WaitLog("the shared keys differ", limit)
	}
	gw1.WaitRole("MASTER") // alone
	for _, m := range p.Members {
		s, err := m.Status()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Members) != 0 {
			t.Errorf("%s has a member: %v", m.Name, s.Members)
		}
	}
	if tb := tables(t, gw2); len(tb.States)+len(tb.Policies) != 0 {
		t.Errorf("gw2 has %d SAs and %d policies, of a gateway with another key", len(tb.States), len(tb.Policies))
	}
	if tb := tables(t, gw1); len(tb.States) != 4 || len(tb.Policies) != 6 {
		t.Errorf("gw1 has %d SAs and %d policies, want its own 4 and 6", len(tb.States), len(tb.Policies))
	}
	streams := tp.stop()
	if len(streams) == 0 {
		t.Error("no connection was captured")
	}
	for _, s := range streams {
		// A dialler also begins with TLS, whose first message says nothing yet.
		if n := len(s.data()); s.from.Port() == syncPort && n > challenge {
			t.Errorf("%v sent %d bytes to %v, want at most a challenge of %d", s.from, n, s.to, challenge)
		}
	}
	for _, what := range found(secrets(t, p), streams) {
		t.Error(what)
	}
}
