package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// DialFunc opens a stream to an address in the form host:port; net.Dialer has
// one for network "tcp".
type DialFunc func(ctx context.Context, address string) (net.Conn, error)

// ErrRefused is returned, wrapped, when the other side closed the connection
// behind the answer to its challenge: it does not hold the key, or holds it no
// longer.
var ErrRefused = errors.New("refused the shared key")

const (
	prefaceTimeout = 2 * time.Second
	tlsTimeout     = 5 * time.Second
)

// Dial connects to address. When the other side refuses a key the next is
// tried on a new connection. The connection may still turn out to be refused
// until its first frame was read. ctx bounds the time of all attempts; each
// has limits of its own.
func Dial(ctx context.Context, dial DialFunc, address string, keys Keys) (*Conn, error) {
	err := errors.New("no shared key")
	for i, k := range keys.list {
		var c *Conn
		if c, err = dialKey(ctx, dial, address, k); err == nil {
			return c, nil
		}
		if !errors.Is(err, ErrRefused) {
			return nil, fmt.Errorf("connect to %s: %w", address, err)
		}
		if i > 0 {
			err = fmt.Errorf("%w (key %d too)", err, i+1)
		}
	}
	return nil, fmt.Errorf("connect to %s: %w", address, err)
}

func dialKey(ctx context.Context, dial DialFunc, address string, k *key) (*Conn, error) {
	conn, err := dial(ctx, address)
	if err != nil {
		return nil, plain(err)
	}
	raw := &meter{Conn: conn}
	c, err := dialOn(ctx, raw, k)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

// plain leaves out of an error of package net what Dial says as well: the address,
// and that it connects.
func plain(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && op.Err != nil {
		err = op.Err
		if call, ok := err.(*os.SyscallError); ok { //nolint:errorlint // only what is outermost
			err = call.Err
		}
	}
	return err
}

// dialOn does the dialler's part on an open connection.
func dialOn(ctx context.Context, raw *meter, k *key) (*Conn, error) {
	// Reads and writes do not know ctx; closing the connection ends them.
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()

	if err := raw.SetDeadline(time.Now().Add(prefaceTimeout)); err != nil {
		return nil, err
	}
	var challenge [challengeLen]byte
	if _, err := io.ReadFull(raw, challenge[:]); err != nil {
		return nil, fmt.Errorf("read challenge: %w", orContext(ctx, err))
	}
	if err := raw.SetDeadline(time.Now().Add(tlsTimeout)); err != nil {
		return nil, err
	}
	answer := k.answer(challenge[:], raw.LocalAddr(), raw.RemoteAddr())
	if _, err := raw.Write(answer[:]); err != nil {
		return nil, fmt.Errorf("write answer: %w", orContext(ctx, refusal(err)))
	}
	t := tls.Client(raw, k.dial())
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("tls: %w", orContext(ctx, refusal(err)))
	}
	if !stop() {
		return nil, ctx.Err()
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return newConn(t, raw, k, true, nil), nil
}

// refusal turns the ways in which a closed connection shows into ErrRefused.
func refusal(err error) error {
	for _, closed := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, closed) {
			return ErrRefused
		}
	}
	return err
}

// orContext prefers the reason for which ctx ended.
func orContext(ctx context.Context, err error) error {
	if e := ctx.Err(); e != nil {
		return e
	}
	return err
}
