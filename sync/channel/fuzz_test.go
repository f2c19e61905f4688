package channel

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// script is a connection to somebody who says what was written beforehand.
type script struct {
	net.Conn
	says bytes.Reader
	got  bytes.Buffer
}

func (s *script) Read(b []byte) (int, error)       { return s.says.Read(b) }
func (s *script) Write(b []byte) (int, error)      { return s.got.Write(b) }
func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 500} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 40000} }

// Whatever a stranger says, the listener has said its challenge and nothing
// else, and TLS has not begun.
func FuzzListenerPreface(f *testing.F) {
	keys := derive(f, hexA, hexB)
	f.Add([]byte{})
	f.Add(make([]byte, answerLen))
	f.Add(make([]byte, 4096))
	f.Fuzz(func(t *testing.T, says []byte) {
		l := NewListener(ListenConfig{Keys: keys, Log: discard()})
		c := new(script)
		c.says.Reset(says)
		if _, why, _ := l.handshake(t.Context(), c, func() {}); why == admitted || why == refusedTLS {
			t.Fatalf("%x got through the preface", says)
		}
		if c.got.Len() != challengeLen {
			t.Fatalf("%d bytes were sent", c.got.Len())
		}
		if left := min(len(says), max(len(says)-answerLen, 0)); c.says.Len() != left {
			t.Fatalf("%d bytes of %d were left unread", c.says.Len(), len(says))
		}
	})
}

// Whatever listens there, a dialler without proof of the key says no more than
// its answer and the beginning of a handshake.
func FuzzDiallerPreface(f *testing.F) {
	k := derive(f, hexA).list[0]
	f.Add([]byte{})
	f.Add(make([]byte, challengeLen))
	f.Add(append(make([]byte, challengeLen), "\x16\x03\x03\x00\x02ab"...))
	f.Fuzz(func(t *testing.T, says []byte) {
		c := new(script)
		c.says.Reset(says)
		if _, err := dialOn(t.Context(), &meter{Conn: c}, k); err == nil {
			t.Fatalf("connected to %x", says)
		}
		sent, _ := io.ReadAll(&c.got)
		if len(says) < challengeLen && len(sent) != 0 {
			t.Fatalf("%d bytes were sent without a challenge", len(sent))
		}
		for _, secret := range [][]byte{k.mac[:], k.dialler.public, k.listener.public} {
			if bytes.Contains(sent, secret[:16]) {
				t.Fatal("key material was sent")
			}
		}
	})
}

// FuzzSpec: any text is a key or is refused, and is not repeated in either case.
func FuzzSpec(f *testing.F) {
	f.Add("0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	f.Add("mekmitasdigoat16")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSpec(text)
		said := s.String()
		if err != nil {
			said = err.Error()
		}
		if len(text) >= 12 && strings.Contains(said, text) {
			t.Errorf("%q is repeated: %s", text, said)
		}
	})
}
