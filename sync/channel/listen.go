package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// ListenConfig says whom a Listener lets in. The zero value of a number means
// its default.
type ListenConfig struct {
	Keys Keys
	// Allow lists the addresses that may connect; nil lets everybody try.
	Allow []netip.Addr
	// MaxPending bounds the connections that have not sent a frame yet (16),
	// MaxPendingPerAddr those of one address (4).
	MaxPending, MaxPendingPerAddr int
	// Rate bounds the connections a second of one address (10), with twice as
	// many at once.
	Rate int
	Log  *slog.Logger // required
}

// Listener turns connections of diallers that hold a shared key into Conns and
// keeps the others away.
type Listener struct {
	keys  atomic.Pointer[Keys]
	allow atomic.Pointer[map[netip.Addr]bool]
	gate  *gate
	log   *slog.Logger

	// Counters are how connections fared.
	Counters Counters
}

// NewListener returns a listener. It does nothing until Serve.
func NewListener(cfg ListenConfig) *Listener {
	l := &Listener{log: cfg.Log, gate: newGate(cfg)}
	l.SetKeys(cfg.Keys)
	l.SetAllow(cfg.Allow)
	return l
}

// SetKeys replaces the accepted keys. Connections that are up stay.
func (l *Listener) SetKeys(ks Keys) { l.keys.Store(&ks) }

// SetAllow replaces the addresses that may connect; nil lets everybody try.
func (l *Listener) SetAllow(addrs []netip.Addr) {
	l.gate.strangers.Store(addrs == nil)
	if addrs == nil {
		l.allow.Store(nil)
		return
	}
	m := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		m[a.Unmap().WithZone("")] = true
	}
	l.allow.Store(&m)
}

// Serve accepts connections from nl until ctx ends or nl is closed, and calls
// handle in a goroutine of its own for each that has the key. Several sockets
// may be served at a time, under the same limits. It returns when nl is closed
// and all handshakes have ended; handlers may still run.
func (l *Listener) Serve(ctx context.Context, nl net.Listener, handle func(*Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = nl.Close() })
	var handshakes sync.WaitGroup
	defer handshakes.Wait()
	for pause := time.Duration(0); ; {
		conn, err := nl.Accept()
		switch {
		case err == nil:
			pause = 0
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		default:
			// Out of files or the like: it passes, but not faster by asking.
			l.Counters.AcceptErrors.Add(1)
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			l.log.Warn("cannot accept connections", "reason", err, "retry", pause)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			continue
		}
		release, why := l.admit(conn.RemoteAddr())
		if why != admitted {
			_ = conn.Close()
			l.refused(conn.RemoteAddr(), why, nil)
			continue
		}
		handshakes.Go(func() {
			c, why, err := l.handshake(ctx, conn, release)
			if why != admitted {
				_ = conn.Close()
				release()
				l.refused(conn.RemoteAddr(), why, err)
				return
			}
			// The stack of this goroutine grew in the handshake; a fresh one
			// serves the connection with a tenth of the memory.
			go handle(c)
		})
	}
}

// admit checks what costs nothing: who it is and how many there are.
func (l *Listener) admit(a net.Addr) (release func(), _ refusalReason) {
	l.Counters.Accepted.Add(1)
	from, _ := addrPort(a)
	if allow := l.allow.Load(); allow != nil && !(*allow)[from.Addr()] {
		return nil, refusedSource
	}
	return l.gate.enter(from.Addr(), time.Now())
}

// handshake does the listener's part of the preface and of TLS.
func (l *Listener) handshake(ctx context.Context, conn net.Conn, release func()) (*Conn, refusalReason, error) {
	raw := &meter{Conn: conn}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	k, why, err := l.preface(raw)
	if why != admitted {
		return nil, why, err
	}
	if err := raw.SetDeadline(time.Now().Add(tlsTimeout)); err != nil {
		return nil, refusedTLS, err
	}
	t := tls.Server(raw, k.listen())
	if err := t.HandshakeContext(ctx); err != nil {
		if errors.Is(refusal(err), ErrRefused) {
			return nil, refusedGone, err // the dialler thought better of it
		}
		return nil, refusedTLS, err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, refusedTLS, err
	}
	settle := func(up bool) {
		release()
		if up {
			l.Counters.Up.Add(1)
		} else {
			l.refused(conn.RemoteAddr(), refusedHello, nil)
		}
	}
	return newConn(t, raw, k, false, settle), admitted, nil
}

// preface sends the challenge and judges the answer.
func (l *Listener) preface(raw net.Conn) (*key, refusalReason, error) {
	if err := raw.SetDeadline(time.Now().Add(prefaceTimeout)); err != nil {
		return nil, refusedLate, err
	}
	challenge := newChallenge()
	if _, err := raw.Write(challenge[:]); err != nil {
		return nil, refusedLate, err
	}
	var answer [answerLen]byte
	if _, err := io.ReadFull(raw, answer[:]); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, refusedLate, err
		}
		return nil, refusedGone, err
	}
	k := l.keys.Load().match(answer[:], challenge[:], raw.RemoteAddr(), raw.LocalAddr())
	if k == nil {
		return nil, refusedKey, nil
	}
	return k, admitted, nil
}
