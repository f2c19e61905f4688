package track

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/bfd"
)

// heard is what a Tracker has said about sessions.
type heard struct {
	mu     sync.Mutex
	by     map[string]int // by group
	why    map[string]string
	status map[string]bfd.Status
	said   chan struct{} // holds one while something is new
}

func (h *heard) Track(group, id string, by int, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.by[group], h.why[group+" "+id] = by, reason
	h.news()
}

func (h *heard) BFD(group string, _ netip.Addr, _ string, status bfd.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status[group] = status
	h.news()
}

func (h *heard) news() {
	select {
	case h.said <- struct{}{}:
	default:
	}
}

// await waits until cond holds, which is called with h locked.
func (h *heard) await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		h.mu.Lock()
		ok := cond()
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-h.said:
		case <-limit:
			h.mu.Lock()
			defer h.mu.Unlock()
			t.Fatalf("waited in vain: %s: demotions %v, %v, sessions %+v", what, h.by, h.why, h.status)
		}
	}
}

// lockedLog is a log that can be read while it is written.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// freePort is a UDP port that nobody uses on these addresses.
func freePort(t *testing.T, as ...netip.Addr) uint16 {
	t.Helper()
	for range 100 {
		var port uint16
		free := true
		for _, a := range as {
			c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port)))
			if err != nil {
				free = false
				break
			}
			port = uint16(c.LocalAddr().(*net.UDPAddr).Port)
			c.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// speak runs the sessions of tracks from the address local, and returns what ends it.
// Before grace is over they do not demote.
func speak(t *testing.T, grace time.Duration, local netip.AddrPort, to uint16, tracks ...Config) (h *heard,
	log *lockedLog, end func()) {
	t.Helper()
	h = &heard{by: map[string]int{}, why: map[string]string{}, status: map[string]bfd.Status{},
		said: make(chan struct{}, 1)}
	log = new(lockedLog)
	s := newSpeaker(New(tracks, h, slog.New(slog.NewTextHandler(log, nil))))
	family := 0
	if local.Addr().Is6() {
		family = 1
	}
	s.in[family].at, s.to, s.grace = local, to, grace
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return h, log, end
}

// Two of ours come Up and tell each other when they end, which demotes all groups
// that track the session.
func TestBFDBetweenTwo(t *testing.T) {
	const grace = time.Minute
	one, two := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	port := freePort(t, one, two)
	track := func(from, to netip.Addr, group string) Config {
		return Config{Kind: BFD, Addr: to, Source: from, Group: group, Demote: 7, Interval: 200 * time.Millisecond,
			Multiplier: 3}
	}
	h, log, _ := speak(t, grace, netip.AddrPortFrom(one, port), port, track(one, two, "a"), track(one, two, "b"))
	_, _, end := speak(t, grace, netip.AddrPortFrom(two, port), port, track(two, one, "a"))
	up := func() bool { return h.status["a"].State == bfd.Up && h.status["b"].State == bfd.Up }
	h.await(t, "Up", up)
	h.await(t, "the intervals agreed", func() bool {
		return h.status["a"].Transmit == 200*time.Millisecond && h.status["a"].Detection == 600*time.Millisecond
	})
	end()
	h.await(t, "demoted by the neighbor's end", func() bool { return h.by["a"] == 7 && h.by["b"] == 7 })
	h.await(t, "its silence", func() bool {
		return h.why["a track:bfd:127.0.0.2"] == "neighbor is not heard" && !h.status["a"].Heard
	})
	_, _, end = speak(t, grace, netip.AddrPortFrom(two, port), port, track(two, one, "a"))
	h.await(t, "Up again", func() bool { return up() && h.by["a"] == 0 && h.by["b"] == 0 })
	end()
	h.await(t, "demoted again", func() bool { return h.by["a"] == 7 && h.by["b"] == 7 })
	// Once per group and change, whatever the reason became meanwhile.
	if lost, back := log.count("demote=7"), log.count("demote=0"); lost != 4 || back != 2 {
		t.Errorf("the log has %d losses and %d returns:\n%s", lost, back, log.b.String())
	}
}

// script is a neighbor that does what a test wants.
type script struct {
	t  *testing.T
	in receiver
	to netip.AddrPort // of the session
}

// hear waits for a packet of the session.
func (s *script) hear() (d datagram, p bfd.Packet) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		left := time.Until(end)
		if left <= 0 {
			s.t.Fatal("nothing is heard of the session")
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(s.in.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		d, err := s.in.read()
		if err != nil {
			continue
		}
		p, err := bfd.Decode(d.data)
		if err != nil {
			s.t.Fatalf("the session sends what is no packet: %v", err)
		}
		return d, p
	}
}

// say sends a packet to the session with a hop limit.
func (s *script) say(hops int, p bfd.Packet) {
	s.t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.to))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	level, option := unix.IPPROTO_IP, unix.IP_TTL
	if s.to.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	}
	if cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, hops) }); cerr != nil ||
		err != nil {
		s.t.Fatal(cerr, err)
	}
	if _, err := c.Write(p.Append(nil)); err != nil {
		s.t.Fatal(err)
	}
}

// What leaves a session has a hop limit of 255 and one source port in the range of
// RFC 5881. What arrives counts with a hop limit of 255 only, and from the neighbor.
// Silence demotes, and ends with the neighbor's return.
func TestBFDOnTheWire(t *testing.T) {
	const grace = 300 * time.Millisecond
	for name, local := range map[string]netip.Addr{
		"IPv4": netip.MustParseAddr("127.0.0.1"), "IPv6": netip.IPv6Loopback(),
	} {
		t.Run(name, func(t *testing.T) {
			port, to := freePort(t, local), freePort(t, local)
			n := &script{t: t, to: netip.AddrPortFrom(local, port)}
			n.in = receiver{fd: -1, at: netip.AddrPortFrom(local, to)}
			if err := n.in.listen(); err != nil {
				t.Fatal(err)
			}
			defer n.in.close()
			h, log, end := speak(t, grace, n.to, to, Config{Kind: BFD, Addr: local, Device: "lo", Group: "g", Demote: 9,
				Interval: 50 * time.Millisecond, Multiplier: 3})

			d, p := n.hear()
			if p.State != bfd.Down || p.DesiredMinTx != bfd.SlowInterval || p.RequiredMinRx != 50*time.Millisecond ||
				p.Multiplier != 3 || p.YourDiscr != 0 {
				t.Errorf("first packet %+v", p)
			}
			if d.hops != 255 || d.from != local {
				t.Errorf("hop limit %d, from %v", d.hops, d.from)
			}
			h.await(t, "demoted, as nobody answers", func() bool { return h.by["g"] == 9 })

			answer := bfd.Packet{State: bfd.Down, Multiplier: 10, MyDiscr: 5, YourDiscr: p.MyDiscr,
				DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 50 * time.Millisecond}
			// Refused, each for a reason that is told once. Each comes before one that asks
			// for an answer that would be given in any state.
			bad, unknown := answer, answer
			bad.Poll = true
			n.say(254, bad)
			n.say(254, bad)
			unknown.YourDiscr++
			n.say(255, unknown)
			h.mu.Lock()
			if st := h.status["g"]; st.Heard {
				t.Errorf("heard: %+v", st)
			}
			h.mu.Unlock()
			n.say(255, answer)
			for p.State == bfd.Down {
				if d, p = n.hear(); p.Final {
					t.Error("a packet from beyond a router is answered")
				}
			}
			if p.State != bfd.Init || p.YourDiscr != 5 {
				t.Errorf("told Down: %+v", p)
			}
			if log.count("its TTL or hop limit is not 255") != 1 || log.count("discriminator is of another session") != 1 {
				t.Errorf("the log does not have each reason once:\n%s", log.b.String())
			}
			answer.State = bfd.Init
			n.say(255, answer)
			h.await(t, "Up", func() bool { return h.status["g"].State == bfd.Up && h.by["g"] == 0 })
			answer.State, answer.Poll = bfd.Up, true
			n.say(255, answer)
			for !p.Final {
				_, p = n.hear()
			}
			// 10 intervals of 50 ms later.
			h.await(t, "demoted by silence", func() bool { return h.by["g"] == 9 })
			h.mu.Lock()
			if why := h.why["g track:bfd:"+local.String()+"%lo"]; why != "neighbor is not heard any more" {
				t.Errorf("reason %q", why)
			}
			h.mu.Unlock()
			for p.State != bfd.Down {
				_, p = n.hear()
			}
			if p.Diag != bfd.DetectionExpired {
				t.Errorf("after silence: %+v", p)
			}
			answer.State, answer.Poll, answer.YourDiscr = bfd.Down, false, 0
			n.say(255, answer)
			answer.State, answer.YourDiscr = bfd.Init, p.MyDiscr
			n.say(255, answer)
			h.await(t, "Up again", func() bool { return h.status["g"].State == bfd.Up && h.by["g"] == 0 })
			end()
			for p.State != bfd.AdminDown {
				_, p = n.hear()
			}
			if p.Diag != bfd.AdministrativelyDown {
				t.Errorf("last word %+v", p)
			}
		})
	}
}

// Sessions keep to ports of their own, also when a socket is opened anew.
func TestBFDSourcePorts(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	to := freePort(t, local)
	seen := map[int]bool{}
	for i := range 8 {
		s := sender{neighbor: local, source: local, number: i, of: 8, fd: -1}
		s.send([]byte{0}, to)
		if s.err != nil {
			t.Fatal(s.err)
		}
		defer s.close()
		if s.port < firstSource || s.port > lastSource || seen[s.port] {
			t.Errorf("source port %d", s.port)
		}
		seen[s.port] = true
		before := s.port
		s.close()
		if s.send([]byte{0}, to); s.port != before || s.err != nil {
			t.Errorf("source port %d became %d, %v", before, s.port, s.err)
		}
	}
}

// What keeps a session from being run is its reason, and passes with it.
func TestBFDWithoutSocket(t *testing.T) {
	const grace = 0
	local := netip.MustParseAddr("127.0.0.1")
	port, to := freePort(t, local), freePort(t, local)
	other, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, port)))
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Kind: BFD, Addr: local, Group: "g", Demote: 9, Interval: time.Second, Multiplier: 3}
	h, _, _ := speak(t, grace, netip.AddrPortFrom(local, port), to, c)
	h.await(t, "the port is taken", func() bool {
		return h.by["g"] == 9 && strings.Contains(h.why["g track:bfd:127.0.0.1"], "address already in use")
	})
	other.Close()
	h.await(t, "the port is free", func() bool { return h.why["g track:bfd:127.0.0.1"] == "neighbor is not heard" })

	c.Device = "nosuch0"
	h, _, _ = speak(t, grace, netip.AddrPortFrom(local, freePort(t, local)), to, c)
	h.await(t, "no interface", func() bool {
		return h.by["g"] == 9 && strings.Contains(h.why["g track:bfd:127.0.0.1%nosuch0"], "nosuch0: no such device")
	})
}

// The end does not wait for neighbors that do not answer, beside other tracks.
func TestEndOfBFD(t *testing.T) {
	tracks := []Config{{Kind: BFD, Addr: netip.MustParseAddr("127.0.0.9"), Group: "g", Demote: 1, Interval: time.Hour,
		Multiplier: 255}, {Kind: Link, Target: "lo", Demote: 1}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	h := &heard{by: map[string]int{}, why: map[string]string{}, status: map[string]bfd.Status{},
		said: make(chan struct{}, 1)}
	go func() { done <- New(tracks, h, slog.New(slog.DiscardHandler)).Run(ctx) }()
	h.await(t, "the session begins", func() bool { return h.status["g"].State == bfd.Down })
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
	}
}

// TestBFDPacketsAreMarked: they leave with the hops that a neighbor checks (RFC 5881 section
// 5), in the class of network control.
func TestBFDPacketsAreMarked(t *testing.T) {
	for _, local := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		s := sender{neighbor: local, source: local, of: 1, fd: -1}
		s.send([]byte{0}, freePort(t, local))
		if s.err != nil {
			t.Fatal(s.err)
		}
		level, hops, class := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_TOS
		if local.Is6() {
			level, hops, class = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_TCLASS
		}
		for name, want := range map[int]int{hops: 255, class: 0xc0} {
			if got, err := unix.GetsockoptInt(s.fd, level, name); err != nil || got != want {
				t.Errorf("%v: option %d is %d, %v, want %d", local, name, got, err, want)
			}
		}
		s.close()
	}
}
