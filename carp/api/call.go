package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ErrClosed is returned by calls on a connection that has ended.
var ErrClosed = errors.New("connection to carpd is closed")

// RequestError is an answer of carpd that says no.
type RequestError struct{ Text string }

// Error returns the words of carpd.
func (e *RequestError) Error() string { return e.Text }

// Conn is one connection to carpd. Call may be used concurrently.
type Conn struct {
	conn   net.Conn
	events chan Message

	mu    sync.Mutex
	next  uint64
	calls map[uint64]chan Message
	err   error
}

// Dial connects. Events arrive on Events, which must be read after subscribing.
func Dial(ctx context.Context, socket string) (*Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to carpd: %w", err)
	}
	c := &Conn{conn: conn, events: make(chan Message, peerQueue), calls: make(map[uint64]chan Message)}
	go c.read()
	return c, nil
}

// Events returns the events in order. The channel is closed when the connection
// ends.
func (c *Conn) Events() <-chan Message { return c.events }

// Close ends the connection; Events must be read until closed by whoever
// subscribed.
func (c *Conn) Close() error { return c.conn.Close() }

func (c *Conn) read() {
	in := newLines(c.conn, maxLine)
	for {
		var m Message
		if err := in.next(&m); err != nil {
			c.fail()
			close(c.events)
			return
		}
		if m.Event != "" {
			c.events <- m
			continue
		}
		c.mu.Lock()
		ch := c.calls[m.ID]
		delete(c.calls, m.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- m
		}
	}
}

func (c *Conn) fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = ErrClosed
	for id, ch := range c.calls {
		delete(c.calls, id)
		close(ch)
	}
	c.conn.Close()
}

// Call sends a request and waits for its reply. A refusal is a *RequestError.
func (c *Conn) Call(ctx context.Context, r Request) (Message, error) {
	ch := make(chan Message, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return Message{}, c.err
	}
	c.next++
	r.ID = c.next
	c.calls[r.ID] = ch
	b, err := line(r)
	if err == nil {
		_ = c.conn.SetWriteDeadline(time.Now().Add(peerTimeout))
		_, err = c.conn.Write(b)
	}
	if err != nil {
		delete(c.calls, r.ID)
		c.mu.Unlock()
		return Message{}, fmt.Errorf("send %s: %w", r.Verb, err)
	}
	c.mu.Unlock()
	select {
	case m, ok := <-ch:
		if !ok {
			return Message{}, ErrClosed
		}
		if m.Error != "" {
			return m, &RequestError{m.Error}
		}
		return m, nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.calls, r.ID)
		c.mu.Unlock()
		return Message{}, fmt.Errorf("%s: %w", r.Verb, ctx.Err())
	}
}
