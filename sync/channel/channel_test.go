package channel

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

func TestNodesWithTheKeyTalk(t *testing.T) {
	keys := derive(t, hexA)
	s := serve(t, ListenConfig{Keys: keys, Allow: loopback})
	near, far := connect(t, s, keys)
	if near.Up() || far.Up() {
		t.Error("up before a frame was read")
	}
	exchange(t, near, far)
	if !near.Up() || !far.Up() || !near.Dialled() || far.Dialled() {
		t.Error("roles or state are wrong")
	}
	if keys.Index(near.Key()) != 0 || near.Key() != far.Key() {
		t.Error("the ends do not agree on the key")
	}
	if far.Remote().String() != near.raw.LocalAddr().String() {
		t.Errorf("remote address %s, want %s", far.Remote(), near.raw.LocalAddr())
	}
	for _, c := range []*Conn{near, far} {
		cs := c.tls.ConnectionState()
		if cs.Version != tls.VersionTLS13 || cs.CurveID != tls.X25519MLKEM768 || cs.DidResume {
			t.Errorf("TLS %x with group %v, resumed %v", cs.Version, cs.CurveID, cs.DidResume)
		}
	}
	nearIn, nearOut := near.Bytes()
	farIn, farOut := far.Bytes()
	if nearIn != farOut || nearOut != farIn || nearIn == 0 || nearOut == 0 {
		t.Errorf("bytes %d/%d at one end, %d/%d at the other", nearIn, nearOut, farIn, farOut)
	}
	if s.Counters.Up.Load() != 1 || len(s.refusals()) != 0 {
		t.Errorf("up %d, refused %v", s.Counters.Up.Load(), s.refusals())
	}
}

func TestStrangerSeesTheChallengeAndTheEnd(t *testing.T) {
	s := serve(t, ListenConfig{Keys: derive(t, hexA, hexB)})
	var seen [][]byte
	for name, send := range map[string]func(net.Conn, []byte){
		"wrong answer":         func(c net.Conn, _ []byte) { c.Write(make([]byte, answerLen)) },
		"4 KiB of noise":       func(c net.Conn, _ []byte) { c.Write(sadbtest.Bytes(sadbtest.NewRand(1), 4096)) },
		"the challenge itself": func(c net.Conn, challenge []byte) { c.Write(challenge) },
		"a ClientHello": func(c net.Conn, _ []byte) {
			tls.Client(c,
				&tls.Config{InsecureSkipVerify: true}).Handshake()
		},
		"nothing, then closes": func(c net.Conn, _ []byte) { c.(*net.TCPConn).CloseWrite() },
	} {
		got := stranger(t, s.addr, send)
		if name == "a ClientHello" {
			// TLS took what came behind the challenge; it must have got nothing.
			got = got[:challengeLen]
		}
		if len(got) != challengeLen {
			t.Errorf("%s: %d bytes came back", name, len(got))
		}
		seen = append(seen, got)
	}
	for i := range seen {
		for j := range i {
			if bytes.Equal(seen[i], seen[j]) {
				t.Error("two challenges are equal")
			}
		}
	}
	until(t, "refusals", func() bool { r := s.refusals(); return r["key"] == 4 && r["gone"] == 1 })
}

func TestWrongKeyIsRefused(t *testing.T) {
	s := serve(t, ListenConfig{Keys: derive(t, hexA)})
	dial, last := recording(tcp("127.0.0.1"))
	c, err := Dial(t.Context(), dial, s.addr, derive(t, hexB))
	if !errors.Is(err, ErrRefused) {
		t.Fatalf("connected: %v, %v", c, err)
	}
	if in, _ := last().bytes(); len(in) != challengeLen {
		t.Errorf("%d bytes came back", len(in))
	}
	until(t, "the refusal", func() bool { return s.refusals()["key"] == 1 })
	s.stop()
	if !strings.Contains(s.log.String(), "the shared keys differ") {
		t.Errorf("the log does not say why:\n%s", s.log)
	}
}

func TestReplayedAnswerIsRefused(t *testing.T) {
	keys := derive(t, hexA)
	s := serve(t, ListenConfig{Keys: keys})
	dial, last := recording(tcp("127.0.0.1"))
	c, err := Dial(t.Context(), dial, s.addr, keys)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exchange(t, c, s.accept(t))
	_, sent := last().bytes()
	if got := stranger(t, s.addr, func(c net.Conn, _ []byte) { c.Write(sent) }); len(got) != challengeLen {
		t.Errorf("a replay got %d bytes", len(got))
	}
	until(t, "the refusal", func() bool { return s.refusals()["key"] == 1 })
}

// splice joins two connections, as a host in the middle does.
func splice(a, b net.Conn) {
	go func() { io.Copy(a, b); a.Close() }()
	go func() { io.Copy(b, a); b.Close() }()
}

// A host in the middle passes on all that it sees, unchanged. The answer is
// bound to the addresses, so not even TLS begins.
func TestRelayIsRefused(t *testing.T) {
	keys := derive(t, hexA)
	s := serve(t, ListenConfig{Keys: keys})
	middle, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer middle.Close()
	go func() {
		for {
			c, err := middle.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", s.addr)
			if err != nil {
				c.Close()
				return
			}
			splice(c, out)
		}
	}()
	if c, err := Dial(t.Context(), tcp("127.0.0.1"), middle.Addr().String(), keys); !errors.Is(err, ErrRefused) {
		t.Errorf("connected: %v, %v", c, err)
	}
	until(t, "the refusal", func() bool { return s.refusals()["key"] == 1 })
}

// Without the addresses (as on a pipe) the roles alone must hold: nothing that
// a dialler says is accepted by a dialler.
func TestReflectionFails(t *testing.T) { synctest.Test(t, testReflection) }

func testReflection(t *testing.T) {
	keys := derive(t, hexA)
	pipe := func() (DialFunc, net.Conn) {
		near, far := net.Pipe()
		return func(context.Context, string) (net.Conn, error) { return near, nil }, far
	}
	{
		dial, far := pipe()
		go func() {
			far.Write(make([]byte, challengeLen))
			io.Copy(far, far)
			far.Close()
		}()
		if c, err := Dial(t.Context(), dial, "echo", keys); err == nil {
			t.Errorf("connected to itself: %v", c)
		}
	}
	{
		dialA, farA := pipe()
		dialB, farB := pipe()
		go func() {
			farA.Write(make([]byte, challengeLen))
			farB.Write(make([]byte, challengeLen))
			splice(farA, farB)
		}()
		errs := make(chan error, 2)
		for _, dial := range []DialFunc{dialA, dialB} {
			go func() {
				_, err := Dial(t.Context(), dial, "crossed", keys)
				errs <- err
			}()
		}
		for range 2 {
			if err := <-errs; err == nil {
				t.Error("a dialler connected to a dialler")
			}
		}
	}
	// Past the preface, with the identity of the wrong role or of no role.
	{
		k, stray := keys.list[0], derive(t, hexB).list[0]
		for name, c := range map[string]*tls.Config{
			"dialler as listener": config(&k.dialler, &k.dialler),
			"another key":         config(&stray.listener, &k.dialler),
		} {
			near, far := net.Pipe()
			go func() {
				tls.Server(far, c).Handshake()
				far.Close()
			}()
			if err := tls.Client(near, k.dial()).Handshake(); !errors.Is(err, errIdentity) {
				t.Errorf("%s: %v", name, err)
			}
			near.Close()
		}
		for name, c := range map[string]*tls.Config{
			"listener as dialler": config(&k.listener, &k.listener),
			"another key":         config(&stray.dialler, &k.listener),
			"no certificate":      {InsecureSkipVerify: true},
		} {
			near, far := net.Pipe()
			go func() {
				// The dialler may believe that it is in; reading tells.
				cl := tls.Client(near, c)
				cl.Handshake()
				cl.Read(make([]byte, 1))
				near.Close()
			}()
			if err := tls.Server(far, k.listen()).Handshake(); err == nil {
				t.Errorf("%s is accepted", name)
			}
			far.Close()
		}
	}
}

func TestClocksDoNotMatter(t *testing.T) {
	k := derive(t, hexA).list[0]
	for _, years := range [][2]int{{1970, 2200}, {2200, 1970}, {9999, 2026}} {
		near, far := net.Pipe()
		d, l := k.dial(), k.listen()
		d.Time = func() time.Time { return time.Date(years[0], 1, 1, 0, 0, 0, 0, time.UTC) }
		l.Time = func() time.Time { return time.Date(years[1], 1, 1, 0, 0, 0, 0, time.UTC) }
		done := make(chan error, 1)
		go func() { done <- tls.Server(far, l).Handshake() }()
		if err := tls.Client(near, d).Handshake(); err != nil {
			t.Errorf("%v: dialler: %v", years, err)
		}
		if err := <-done; err != nil {
			t.Errorf("%v: listener: %v", years, err)
		}
		near.Close()
		far.Close()
	}
}

// Adding, swapping, removing, one node at a time: nobody is refused at any step.
func TestRotationLosesNoConnection(t *testing.T) {
	a, ab, ba, b := derive(t, hexA), derive(t, hexA, hexB), derive(t, hexB, hexA), derive(t, hexB)
	left, right := serve(t, ListenConfig{Keys: a}), serve(t, ListenConfig{Keys: a})
	now := [2]Keys{a, a}
	for i, step := range []struct {
		node int
		keys Keys
	}{{0, ab}, {1, ab}, {0, ba}, {1, ba}, {0, b}, {1, b}} {
		now[step.node] = step.keys
		left.SetKeys(now[0])
		right.SetKeys(now[1])
		near, far := connect(t, right, now[0])
		exchange(t, near, far)
		near, far = connect(t, left, now[1])
		exchange(t, near, far)
		if l, r := left.refusals(), right.refusals(); len(l)+len(r) != 0 {
			t.Fatalf("step %d: refused %v, %v", i+1, l, r)
		}
	}
	// A step left out costs one refusal, not the connection.
	right.SetKeys(b)
	near, far := connect(t, right, ab)
	exchange(t, near, far)
	if got := ab.Index(near.Key()); got != 1 || right.refusals()["key"] != 1 {
		t.Errorf("key %d, refused %v", got, right.refusals())
	}
	// A connection made under a removed key is recognised as such.
	if a.Has(near.Key()) || !b.Has(near.Key()) {
		t.Error("the connection does not know its key")
	}
}

func TestNothingIsReadableOnTheWire(t *testing.T) {
	keys := derive(t, hexA)
	s := serve(t, ListenConfig{Keys: keys})
	dial, last := recording(tcp("127.0.0.1"))
	near, err := Dial(t.Context(), dial, s.addr, keys)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far := s.accept(t)
	sa := sadbtest.SA(sadbtest.NewRand(1))
	sa.AEAD = &sadb.Algorithm{Name: "rfc4106(gcm(aes))", Key: sadb.NewSecret([]byte("a key that must not show")),
		TruncBits: 128}
	batch := &wire.Batch{Stream: 1, First: 1, Records: []wire.Record{{Kind: wire.PutSA, Handle: 1, SA: sa}}}
	hello := &wire.Hello{Min: 1, Max: 1, Kernel: "6.1.0-a-very-special-kernel", Arch: "amd64",
		Groups: []wire.GroupState{{Name: "a-group-of-nodes", Reason: "secret reason"}}}
	for _, x := range [][2]*Conn{{near, far}, {far, near}} {
		for _, m := range []wire.Message{hello, batch} {
			if err := x[0].WriteMessage(m); err != nil {
				t.Fatal(err)
			}
			if _, err := x[1].ReadFrame(); err != nil {
				t.Fatal(err)
			}
		}
	}
	in, out := last().bytes()
	frame, _ := wire.AppendFrame(nil, batch)
	k := keys.list[0]
	shared, _ := hex.DecodeString(hexA[2:])
	for name, secret := range map[string][]byte{
		"SA key": sa.AEAD.Key.Bytes(), "algorithm": []byte("rfc4106"), "group": []byte("a-group-of"),
		"kernel": []byte("special-kernel"),
		"reason": []byte("secret reason"), "record": frame[wire.HeaderLen : wire.HeaderLen+40], "shared key": shared,
		"half of it": shared[:16],
		"MAC key":    k.mac[:], "dialler's public key": k.dialler.public, "listener's public key": k.listener.public,
		"certificate": k.listener.cert.Certificate[0][:40], "key id": k.id[:],
	} {
		if bytes.Contains(in, secret) || bytes.Contains(out, secret) {
			t.Errorf("%s is readable", name)
		}
	}
	if len(in) < 1500 || len(out) < 1500 {
		t.Errorf("only %d and %d bytes were recorded", len(in), len(out))
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	const ascii = "ascii-shared-key"
	s, err := ParseSpec(ascii)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseSpec(hexA)
	if err != nil {
		t.Fatal(err)
	}
	ks := derive(t, hexA)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{s, &s, h, ks, &ks, []Spec{s, h}, struct{ K Keys }{ks}} {
			text := strings.ToLower(fmt.Sprintf(verb, v))
			if strings.Contains(text, ascii) || strings.Contains(text, hex.EncodeToString([]byte(ascii))) ||
				strings.Contains(text, "0001020304") ||
				strings.Contains(text, "0 1 2 3 4") || strings.Contains(text, hex.EncodeToString(ks.list[0].mac[:4])) {
				t.Errorf("%s of %T prints the key: %s", verb, v, text)
			}
		}
	}
}
