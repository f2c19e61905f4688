package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/sync/channel"
	"sasyncd/sync/wire"
	"sasyncd/tests/scenario"
)

// TestHostility is one attack after the other on one pair.
func TestHostility(t *testing.T) {
	a := newArena(t)
	refused := func(reason string) string { return `sasyncd_connections_refused_total{reason="` + reason + `"}` }
	closed := func(reason string) string {
		return `sasyncd_peer_connections_closed_total{reason="` + reason + `"}`
	}

	a.attack("half-open connections of one peer's address", map[string]float64{refused("late"): 4,
		refused("busy"): 500}, func() {
		a.hold(1000, func(int) string { return malloryAddr }, nil, 5*time.Second)
	})
	a.attack("half-open connections of a hundred addresses", map[string]float64{refused("source"): 900}, func() {
		a.hold(1000, func(i int) string { return fmt.Sprintf("10.9.0.%d", 100+i%100) }, nil, 5*time.Second)
	})
	a.attack("half-open by the letter: SYNs from everywhere", nil, func() { a.syns(20_000) })
	a.attack("garbage", map[string]float64{refused("key"): 10, refused("source"): 500}, func() {
		junk := make([]byte, 4096)
		rand.NewChaCha8([32]byte{1}).Read(junk)
		from := func(i int) string {
			if i%2 == 0 {
				return malloryAddr
			}
			return fmt.Sprintf("10.9.0.%d", 100+i%100)
		}
		for range 4 { // the first of each burst come through
			a.hold(400, from, junk, 600*time.Millisecond)
		}
	})
	a.attack("slow senders in challenge and TLS", map[string]float64{refused("late"): 2, refused("tls"): 1},
		a.slowHandshakes)
	a.attack("slow senders in a record", map[string]float64{closed("timeout"): 1}, a.slowRecords)
	a.attack("oversized records", map[string]float64{closed("malformed"): 4}, func() {
		for _, head := range [][]byte{
			{0xff, 0xff, 0xff, 0xff, byte(wire.TypeBatch)}, {0x7f, 0xff, 0xff, 0xff, byte(wire.TypeGossip)},
			binary.BigEndian.AppendUint32(nil, wire.MaxFrame), {0, 0, 0x10, 0, byte(wire.TypePing)},
		} {
			body := make([]byte, wire.MaxFrame+64)
			a.member(func(c *channel.Conn) { _ = c.WriteFrames(append(slices.Clone(head), body...)) })
		}
	})
	a.attack("malformed messages of each type", map[string]float64{closed("malformed"): 10}, a.malformed)
	a.attack("messages that make no sense", map[string]float64{closed("protocol"): 2}, a.nonsense)
	a.attack("gossip of strangers", map[string]float64{"sasyncd_gossip_refused_total": 1000}, a.gossip)
	a.attack("control sockets", map[string]float64{
		`sasyncd_clients_refused_total{listener="control",reason="busy"}`:      500,
		`sasyncd_clients_refused_total{listener="control",reason="malformed"}`: 1,
		`carpd_clients_refused_total{listener="control",reason="busy"}`:        500,
		`carpd_clients_refused_total{listener="control",reason="malformed"}`:   1,
	}, a.controlSockets)
	a.attack("slow clients of the metrics", map[string]float64{`carpd_clients_refused_total{listener="metrics"`: 500,
		`sasyncd_clients_refused_total{listener="metrics"`: 500}, a.slowScrapers)
	a.attack("replayed and forged advertisements",
		map[string]float64{`carpd_authentication_total{family="ipv4",found="replayed"`: 100,
			`carpd_advertisements_dropped_total`: 1000}, a.adverts)
}

// dial connects mallory to a gateway's sync port from one of her addresses. It
// must be called inside mallory.
func dial(ctx context.Context, to netip.Addr, from string) (net.Conn, error) {
	d := net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return d.DialContext(ctx, "tcp", netip.AddrPortFrom(to, 500).String())
}

// hold opens n connections to each gateway, sends something on each, and holds
// them for a time.
func (a *arena) hold(n int, from func(i int) string, send []byte, hold time.Duration) {
	var open []net.Conn
	if err := a.mallory.Do(func() error {
		for i := range n {
			for _, m := range a.Members {
				c, err := dial(a.t.Context(), m.SyncAddr, from(i))
				if err != nil {
					continue // reset already, or out of ports
				}
				if len(send) > 0 {
					_, _ = c.Write(send)
				}
				open = append(open, c)
			}
		}
		return nil
	}); err != nil {
		a.t.Error(err)
	}
	if len(open) < n/2 {
		a.t.Errorf("%d connections were made, want %d", len(open), 2*n)
	}
	time.Sleep(hold)
	for _, c := range open {
		c.Close()
	}
}

// syns sends SYNs from addresses that do not exist.
func (a *arena) syns(n int) {
	r := rand.New(rand.NewPCG(1, 1))
	err := a.mallory.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i := range n {
			to := a.Members[i%2].SyncAddr.As4()
			src := [4]byte{10, 9, 0, byte(200 + r.IntN(50))}
			if i%2 == 1 { // also such as would be routed elsewhere
				src = [4]byte{172, 16, byte(r.IntN(256)), byte(r.IntN(256))}
			}
			tcp := make([]byte, 20)
			binary.BigEndian.PutUint16(tcp, uint16(1024+r.IntN(60000)))
			binary.BigEndian.PutUint16(tcp[2:], 500)
			binary.BigEndian.PutUint32(tcp[4:], r.Uint32())
			tcp[12], tcp[13] = 5<<4, 2 // SYN
			binary.BigEndian.PutUint16(tcp[14:], 1024)
			sum := uint32(6 + 20)
			for _, b := range [][]byte{src[:], to[:], tcp} {
				for j := 0; j < len(b); j += 2 {
					sum += uint32(binary.BigEndian.Uint16(b[j:]))
				}
			}
			for sum > 0xffff {
				sum = sum>>16 + sum&0xffff
			}
			binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
			ip := []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0}
			ip = append(append(append(ip, src[:]...), to[:]...), tcp...)
			if err := unix.Sendto(fd, ip, 0, &unix.SockaddrInet4{Addr: to}); err != nil &&
				!errors.Is(err, unix.ENOBUFS) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		a.t.Error(err)
	}
}

// keys are the pair's own.
func (a *arena) keys() channel.Keys {
	a.t.Helper()
	spec, err := channel.ParseSpec(a.Members[0].Key)
	if err == nil {
		var ks channel.Keys
		if ks, err = channel.Derive(spec); err == nil {
			return ks
		}
	}
	a.t.Fatal(err)
	return channel.Keys{}
}

// connect makes a connection with the key to a gateway; wrap may change what is
// below TLS.
func (a *arena) connect(m *scenario.Member, wrap func(net.Conn) net.Conn) (c *channel.Conn, err error) {
	keys := a.keys()
	dialer := func(ctx context.Context, _ string) (raw net.Conn, err error) {
		doErr := a.mallory.Do(func() error {
			raw, err = dial(ctx, m.SyncAddr, malloryAddr)
			return nil
		})
		if err = errors.Join(err, doErr); err == nil && wrap != nil {
			raw = wrap(raw)
		}
		return raw, err
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	defer cancel()
	// There are at most ten attempts a second from one address.
	for range 100 {
		if c, err = channel.Dial(ctx, dialer, netip.AddrPortFrom(m.SyncAddr, 500).String(), keys); err == nil ||
			wrap != nil {
			return c, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, err
}

var malloryNode = wire.NodeID{0x66, 6, 6, 6}

func (a *arena) hello() *wire.Hello {
	return &wire.Hello{Min: wire.MinVersion, Max: wire.MaxVersion, Node: malloryNode, Boot: wire.NodeID{1},
		Nonce:  rand.Uint64(),
		Kernel: "6.1.0", Arch: "amd64", WallUnix: time.Now().Unix(), Gen: rand.Uint32(),
		Groups: []wire.GroupState{{Name: scenario.Instance, Role: wire.RoleBackup}}}
}

// member has f talk to each gateway as a peer whose hello was taken.
func (a *arena) member(f func(*channel.Conn)) {
	for _, m := range a.Members {
		c, err := a.connect(m, nil)
		if err != nil {
			a.t.Errorf("connect to %s with the key: %v", m.Name, err)
			continue
		}
		if err := c.WriteMessage(a.hello()); err != nil {
			a.t.Errorf("say hello to %s: %v", m.Name, err)
		}
		if msg, err := c.ReadFrame(); err != nil {
			a.t.Errorf("hello of %s: %v %v", m.Name, msg, err)
		}
		_ = c.WriteMessage(&wire.Ping{Token: 1})
		f(c)
		// Until it has judged: it closes, or goes on.
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		for {
			if _, err := c.ReadFrame(); err != nil {
				break
			}
		}
		c.Close()
	}
}

// malformed sends bodies of each type that are too short, too long, or random,
// and such that announce more than there is.
func (a *arena) malformed() {
	r := rand.NewChaCha8([32]byte{3})
	for typ := range 256 {
		t := wire.Type(typ)
		if wire.MaxBody(t) == 0 && typ > 20 || typ > 140 {
			continue
		}
		body := make([]byte, 60)
		r.Read(body)
		switch typ % 3 {
		case 1:
			body = bytes.Repeat([]byte{0xff}, 200) // huge counts
		case 2:
			body = nil
		}
		frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), byte(typ))
		a.member(func(c *channel.Conn) { _ = c.WriteFrames(append(frame, body...)) })
	}
}

// nonsense sends what is well-formed and false.
func (a *arena) nonsense() {
	id := func(node wire.NodeID, term uint64) wire.StreamID {
		return wire.StreamID{Group: scenario.Instance, Term: term, Node: node, Nonce: 1}
	}
	group := func(g wire.GroupState) wire.Message {
		g.Name = scenario.Instance
		return &wire.State{GroupState: g}
	}
	for _, msg := range []wire.Message{
		&wire.SnapBegin{Stream: 1, ID: id(malloryNode, 99)},
		&wire.SnapBegin{Stream: 1, ID: id(wire.NodeID{1}, 1)},
		&wire.SnapEnd{Stream: 1, SAs: 1 << 31, Policies: 1 << 31},
		&wire.Resume{Stream: 1, ID: id(malloryNode, 99), Seq: 1 << 60},
		&wire.Batch{Stream: 7, First: 1 << 60, Records: []wire.Record{{Kind: wire.FlushSA, Numbered: true}}},
		&wire.Counters{Stream: 7, Epoch: 1 << 60, Entries: []wire.CounterEntry{{Handle: 1, OSeq: 1 << 60}}},
		&wire.Ack{Stream: 1, Seq: 1 << 60, Epoch: 1 << 60},
		&wire.Handover{Group: scenario.Instance, Term: 1 << 60},
		&wire.Digest{Stream: 7, Buckets: make([]uint64, 256)},
		&wire.Request{Group: "no such group"},
		group(wire.GroupState{Role: wire.RoleBackup, Term: 1<<64 - 1}), // too high for anybody to go beyond
		group(wire.GroupState{Role: wire.RoleMaster, Term: 1<<64 - 1}),
		&wire.Hello{Min: 1, Max: 1, Node: malloryNode, Kernel: "x", Arch: "x"},
		&wire.Pong{Token: 1 << 60},
		&wire.Gossip{Payload: bytes.Repeat([]byte{2}, 100_000)},
	} {
		a.member(func(c *channel.Conn) {
			for range 3 {
				_ = c.WriteMessage(msg)
			}
		})
	}
}

// gossip sends frames in the name of, and about, thousands that there are not.
func (a *arena) gossip() {
	frame := func(kind, hops byte, to, from wire.NodeID, number uint64, data []byte) []byte {
		b := append([]byte{kind, hops}, to[:]...)
		b = binary.BigEndian.AppendUint64(append(b, from[:]...), number)
		return append(b, data...)
	}
	for _, m := range a.Members {
		s, err := m.Status()
		if err != nil {
			a.t.Fatal(err)
		}
		b, err := hex.DecodeString(s.Node)
		if err != nil || len(b) != len(wire.NodeID{}) {
			a.t.Fatalf("node id %q: %v", s.Node, err)
		}
		self := wire.NodeID(b)
		c, err := a.connect(m, nil)
		if err != nil {
			a.t.Errorf("connect to %s: %v", m.Name, err)
			continue
		}
		_ = c.WriteMessage(a.hello())
		if _, err := c.ReadFrame(); err != nil {
			a.t.Error(err)
		}
		var tasks sync.WaitGroup
		tasks.Go(func() {
			for {
				if _, err := c.ReadFrame(); err != nil {
					return
				}
			}
		})
		for i := range 3000 {
			stranger := wire.NodeID{0x99, byte(i >> 8), byte(i)}
			payload := frame(byte(1+i%5), byte(i%3), self, stranger, uint64(i), []byte("\x04\x86nonsense"))
			if i%4 == 0 {
				payload = frame(1, 1, stranger, stranger, 0, make([]byte, 1000))
			}
			if err := c.WriteMessage(&wire.Gossip{Payload: payload}); err != nil {
				a.t.Errorf("%s does not take gossip: %v", m.Name, err)
				break
			}
		}
		c.Close()
		tasks.Wait()
	}
}

// controlSockets takes all places, says half a line, and a line of 100 MB; and
// an operator must be answered meanwhile.
func (a *arena) controlSockets() {
	for _, m := range a.Members {
		for _, socket := range []string{m.Socket(), m.CarpdSocket()} {
			var open []net.Conn
			for i := range 700 {
				c, err := net.DialTimeout("unix", socket, 5*time.Second)
				if err != nil {
					a.t.Errorf("connection %d: %v", i, err)
					break
				}
				if i%2 == 0 {
					_, _ = io.WriteString(c, `{"verb":"sta`)
				}
				open = append(open, c)
			}
			long, err := net.Dial("unix", socket)
			if err != nil {
				a.t.Fatal(err)
			}
			block := bytes.Repeat([]byte("x"), 1<<20)
			sent := 0
			for ; sent < 100; sent++ {
				if _, err := long.Write(block); err != nil {
					break
				}
			}
			if sent > 10 {
				a.t.Errorf("%s took %d MB of a line", filepath.Base(socket), sent)
			}
			long.Close()
			if _, err := m.Status(); err != nil {
				a.t.Errorf("%s: an operator of sasyncd: %v", m.Name, err)
			}
			g, err := m.Elected()
			if err != nil {
				a.t.Errorf("%s: an operator of carpd: %v", m.Name, err)
			}
			if !slices.Contains(g.Clients, "sasyncd") {
				a.t.Errorf("%s: carpd's clients are %v", m.Name, g.Clients)
			}
			for _, c := range open {
				c.Close()
			}
		}
	}
}
