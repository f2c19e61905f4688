package engine

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/auth"
	"sasyncd/carp/packet"
)

var (
	testKey  = auth.Key{ID: 1, Secret: bytes.Repeat([]byte{7}, 32)}
	otherKey = auth.Key{ID: 1, Secret: bytes.Repeat([]byte{8}, 32)}
	carpVIP  = netip.MustParseAddr("10.0.0.9")
	localVIP = netip.MustParseAddr("fe80::9")
)

func carpConfig(mode auth.Mode) func(*Config) {
	return func(c *Config) {
		r := &c.Routers[0]
		r.Machine, r.Auth, r.Hashed = carp.CARPRouter(5, 1, 100, carp.OpenBSD), "love", []netip.Addr{carpVIP, localVIP}
		if mode != auth.None {
			r.Trailer = auth.Policy{Mode: mode, Keys: []auth.Key{testKey}}
		}
	}
}

// carpNode is another CARP speaker.
type carpNode struct {
	pass  string
	local bool // digest includes link-local addresses
	vips  []netip.Addr
	auth  *auth.Auth
}

func peerNode() *carpNode { return &carpNode{pass: "love", vips: []netip.Addr{carpVIP, localVIP}} }

func (n *carpNode) message(edit func(*packet.CARP)) []byte {
	m := packet.CARP{ID: 5, AdvBase: 1, AdvSkew: 10, Counter: 42}
	if edit != nil {
		edit(&m)
	}
	m.Digest = packet.NewCARPKey([]byte(n.pass), m.ID, n.vips, n.local).Digest(m.Counter)
	b := m.Append(nil)
	if n.auth != nil {
		b = n.auth.Sign(b, b, peerAddr, time.Now())
	}
	return b
}

func frameOf(t testing.TB, body []byte) []byte {
	t.Helper()
	f := packet.Frame{
		Dst: packet.GroupMAC(packet.Group4()), Src: packet.VirtualMAC(5, false), SrcIP: peerAddr,
		DstIP: packet.Group4(),
		TTL:   255, Proto: packet.Protocol, Payload: body,
	}
	b, err := f.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReceiveCARP(t *testing.T) {
	for name, tc := range map[string]struct {
		from *carpNode
		edit func(*packet.CARP)
		own  bool // with our own cookie
		want bool
	}{
		"as OpenBSD": {from: peerNode(), want: true},
		"as FreeBSD": {from: &carpNode{pass: "love", local: true, vips: []netip.Addr{localVIP, carpVIP}},
			want: true},
		"other pass":    {from: &carpNode{pass: "hate", vips: []netip.Addr{carpVIP}}},
		"other address": {from: &carpNode{pass: "love", vips: []netip.Addr{carpVIP, netip.MustParseAddr("10.0.0.10")}}},
		"own cookie":    {from: peerNode(), own: true},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := testEngine(t, carpConfig(auth.None))
			r := e.routers[0]
			b := tc.from.message(func(m *packet.CARP) {
				if tc.own {
					m.Counter = r.carp.counter
				}
			})
			e.packet(r.port, time.Second, frameOf(t, b))
			if got := r.rx.Load() == 1; got != tc.want {
				t.Errorf("taken: %v, want %v", got, tc.want)
			}
			digests := uint64(0)
			if strings.HasPrefix(name, "other") {
				digests = 1
			}
			if got := r.badDigest.Load(); got != digests {
				t.Errorf("%d wrong digests are counted, want %d", got, digests)
			}
			if got := r.dropped.Load() == 0; got != tc.want {
				t.Errorf("not refused: %v, want %v", got, tc.want)
			}
		})
	}
}

// VRRP with our vhid is refused, and CARP with our VRID.
func TestOtherProtocol(t *testing.T) {
	e, _ := testEngine(t, carpConfig(auth.None))
	e.packet(e.routers[0].port, time.Second, advert(t, nil))
	if r := e.routers[0]; r.rx.Load() != 0 || r.refusals[warnVRRP].count == 0 {
		t.Error("VRRP was taken for CARP")
	}
	e, _ = testEngine(t, nil)
	e.packet(e.routers[0].port, time.Second, frameOf(t, peerNode().message(nil)))
	if r := e.routers[0]; r.rx.Load() != 0 || r.refusals[warnCARP].count == 0 {
		t.Error("CARP was taken for VRRP")
	}
}

// What is sent can be read by those who wrote the rules down: the digest has no
// link-local addresses in OpenBSD's dialect and has them in FreeBSD's.
func TestSendCARP(t *testing.T) {
	for _, d := range []carp.Dialect{carp.OpenBSD, carp.FreeBSD} {
		e, _ := testEngine(t, func(c *Config) {
			carpConfig(auth.None)(c)
			c.Routers[0].Machine.Dialect = d
		})
		r := e.routers[0]
		b, err := e.message(r, carp.Action{Priority: 1, Base: 1, Skew: 100, Demotion: 3}, r.src, packet.Group4())
		if err != nil {
			t.Fatal(err)
		}
		var m packet.CARP
		if err := m.Parse(b); err != nil || m.ID != 5 || m.AdvBase != 1 || m.AdvSkew != 100 || m.Demotion != 3 ||
			len(b) != 36 {
			t.Errorf("%+v, %v", m, err)
		}
		if !packet.NewCARPKey([]byte("love"), 5, []netip.Addr{carpVIP, localVIP}, d == carp.FreeBSD).Verify(&m) {
			t.Errorf("dialect %d: digest", d)
		}
	}
}

// Counters as the other implementations draw them.
func TestCARPCounter(t *testing.T) {
	bsd := newCARPWire(&Router{Machine: carp.CARPRouter(1, 1, 0, carp.OpenBSD), VIPs: []netip.Addr{carpVIP}})
	if a := bsd.next(); a != bsd.next() || bsd.own(&packet.CARP{Counter: a + 1}) || !bsd.own(&packet.CARP{Counter: a}) {
		t.Error("OpenBSD: one cookie per life")
	}
	free := newCARPWire(&Router{Machine: carp.CARPRouter(1, 1, 0, carp.FreeBSD), VIPs: []netip.Addr{carpVIP}})
	if a := free.next(); a+1 == free.next() {
		t.Error("FreeBSD: random until somebody is heard")
	}
	free.follow(&packet.CARP{Counter: 99})
	if a, b := free.next(), free.next(); a != 100 || b != 101 {
		t.Errorf("FreeBSD: %d %d after 99", a, b)
	}
}

// In enforce mode nothing but fresh messages of key holders moves a machine.
// Each row is what an attacker without the key can do who hears everything.
func TestEnforceCARP(t *testing.T) {
	signer := func(k auth.Key) *auth.Auth { return auth.New(auth.Policy{Mode: auth.Enforce, Keys: []auth.Key{k}}) }
	e, _ := testEngine(t, carpConfig(auth.Enforce))
	r := e.routers[0]
	node := peerNode()
	node.auth = signer(testKey)
	good := node.message(nil)
	e.packet(r.port, time.Second, frameOf(t, good))
	if r.rx.Load() != 1 {
		t.Fatal("genuine advertisement refused")
	}
	before := r.group.machine.Snapshot(2 * time.Second)
	bow := func(m *packet.CARP) { m.AdvBase, m.AdvSkew = 255, 255 }
	// A bow-out with the digest and trailer of a captured message.
	var m packet.CARP
	if err := m.Parse(good); err != nil {
		t.Fatal(err)
	}
	bow(&m)
	stolen := m.Append(nil)
	plain := peerNode()
	wrong := peerNode()
	wrong.auth = signer(otherKey)
	stranger := peerNode()
	stranger.auth = signer(auth.Key{ID: 9, Secret: otherKey.Secret})
	for _, tc := range []struct {
		name    string
		body    []byte
		verdict auth.Verdict
	}{
		{"replay", good, auth.Replayed},
		{"bow-out under a stolen trailer", stolen, auth.Forged},
		{"bow-out without a trailer", plain.message(bow), auth.Unsigned},
		{"bow-out of a wrong key", wrong.message(bow), auth.Forged},
		{"better one of an unknown key", stranger.message(func(m *packet.CARP) { m.AdvBase, m.AdvSkew = 0, 0 }),
			auth.UnknownKey},
	} {
		count := r.verdicts[tc.verdict].Load()
		e.packet(r.port, 2*time.Second, frameOf(t, tc.body))
		if r.verdicts[tc.verdict].Load() != count+1 {
			t.Errorf("%s: not counted as %v", tc.name, tc.verdict)
		}
		after := r.group.machine.Snapshot(2 * time.Second)
		if after.Routers[0] != before.Routers[0] || r.rx.Load() != 1 {
			t.Errorf("%s moved the machine:\n%+v\n%+v", tc.name, before.Routers[0], after.Routers[0])
		}
	}
}

// The same for VRRPv3, in both directions: what one engine signs another takes.
func TestEnforceVRRP(t *testing.T) {
	keyed := func(c *Config) {
		c.Routers[0].Trailer = auth.Policy{Mode: auth.Enforce, Keys: []auth.Key{testKey}}
	}
	peer, _ := testEngine(t, keyed)
	peer.routers[0].src = peerAddr
	e, _ := testEngine(t, keyed)
	r := e.routers[0]
	signed := func(priority uint8) []byte {
		b, err := peer.message(peer.routers[0], carp.Action{Priority: priority}, peer.routers[0].src, packet.Group4())
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(b)
	}
	good, zero := signed(200), signed(0)
	e.packet(r.port, time.Second, frameOf(t, good))
	if r.rx.Load() != 1 {
		t.Fatal("genuine advertisement refused")
	}
	before := r.group.machine.Snapshot(2 * time.Second)
	forged := bytes.Clone(good)
	forged[2] = 0                           // the priority,
	forged[6], forged[7] = zero[6], zero[7] // with the checksum that belongs to it
	for name, b := range map[string][]byte{
		"replay":                  good,
		"resignation, stolen tag": forged,
		"resignation, no tag":     zero[:len(zero)-packet.TrailerLen],
	} {
		e.packet(r.port, 2*time.Second, frameOf(t, b))
		if after := r.group.machine.Snapshot(2 * time.Second); after.Routers[0] != before.Routers[0] ||
			r.rx.Load() != 1 {
			t.Errorf("%s moved the machine", name)
		}
	}
	if v := &r.verdicts; v[auth.Replayed].Load() != 1 || v[auth.Forged].Load() != 1 || v[auth.Unsigned].Load() != 1 {
		t.Errorf("replayed %d forged %d unsigned %d, want 1 each", v[auth.Replayed].Load(), v[auth.Forged].Load(),
			v[auth.Unsigned].Load())
	}
	e.packet(r.port, 3*time.Second, frameOf(t, signed(0)))
	if r.rx.Load() != 2 {
		t.Error("a genuine resignation was refused")
	}
}

// Modes for the change from none to enforce.
func TestTrailerModes(t *testing.T) {
	for _, mode := range []auth.Mode{auth.ReceiveOnly, auth.Permissive, auth.Enforce} {
		e, _ := testEngine(t, carpConfig(mode))
		r := e.routers[0]
		e.packet(r.port, time.Second, frameOf(t, peerNode().message(nil)))
		if got, want := r.rx.Load() == 1, mode != auth.Enforce; got != want {
			t.Errorf("mode %d: unsigned taken: %v", mode, got)
		}
		b, err := e.message(r, carp.Action{Priority: 1, Base: 1}, r.src, packet.Group4())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(b) == 36+packet.TrailerLen, mode != auth.ReceiveOnly; got != want {
			t.Errorf("mode %d: signs %v", mode, got)
		}
	}
}

// Neither direction allocates, signed or not.
func TestCARPAllocatesNothing(t *testing.T) {
	for _, mode := range []auth.Mode{auth.None, auth.Permissive} {
		e, _ := testEngine(t, carpConfig(mode))
		r := e.routers[0]
		b := frameOf(t, peerNode().message(nil))
		now := time.Second
		if n := testing.AllocsPerRun(200, func() {
			now += time.Second
			e.packet(r.port, now, b)
			if _, err := e.message(r, carp.Action{Priority: 1, Base: 1}, r.src, packet.Group4()); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("mode %d: %v allocations per advertisement", mode, n)
		}
	}
}

// The frames of CARP carry the virtual MAC, TOS 0x10 and DF.
func TestCARPFrame(t *testing.T) {
	e, _ := testEngine(t, carpConfig(auth.None))
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	e.routers[0].port.Use(fds[0])
	if err := e.send(e.routers[0], carp.Action{Priority: 1, Base: 1, Skew: 100}); err != nil {
		t.Fatal(err)
	}
	e.routers[0].port.Use(-1)
	b := make([]byte, 2000)
	n, err := unix.Read(fds[1], b)
	if err != nil {
		t.Fatal(err)
	}
	var f packet.Frame
	if err := f.Parse(b[:n]); err != nil {
		t.Fatal(err)
	}
	if f.Src != packet.VirtualMAC(5, false) || f.Dst != packet.GroupMAC(packet.Group4()) || f.TOS != 0x10 ||
		!f.DontFragment || f.TTL != 255 || len(f.Payload) != 36 {
		t.Errorf("%+v", f)
	}
}
