package vici

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ErrUnknown says that charon knows no such command or event, mostly for lack of
// a plugin.
var ErrUnknown = errors.New("unknown to this version of strongswan")

// CommandError is a command that charon refused or failed at.
type CommandError struct {
	Command string
	Message string // charon's words
}

// Error implements error.
func (e *CommandError) Error() string { return "vici " + e.Command + ": " + e.Message }

// Client is one connection for commands, of which the protocol allows one at
// a time; concurrent calls wait for each other. After an error other than
// CommandError and ErrUnknown the connection is of no more use.
type Client struct {
	conn net.Conn
	turn chan struct{}
	once sync.Once
}

// NewClient returns a client on a connected socket, which it owns.
func NewClient(conn net.Conn) *Client {
	c := &Client{conn: conn, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// Close ends the connection and any call under way.
func (c *Client) Close() error {
	err := error(nil)
	c.once.Do(func() { err = c.conn.Close() })
	return err
}

// Call sends a command and returns its answer. An answer with success=no is a
// *CommandError.
func (c *Client) Call(ctx context.Context, command string, args ...Entry) (Message, error) {
	var answer Message
	err := c.locked(ctx, func() error {
		var err error
		answer, err = c.command(command, args, nil)
		return err
	})
	return answer, err
}

// Stream sends a command whose results come as events of the given name, and
// calls each for every one of them.
func (c *Client) Stream(ctx context.Context, command, event string, each func(Message), args ...Entry) error {
	return c.locked(ctx, func() error {
		if err := c.register(EventRegister, event); err != nil {
			return err
		}
		_, err := c.command(command, args, func(p *Packet) {
			if p.Name == event {
				each(p.Message)
			}
		})
		if fatal(err) {
			return err
		}
		return errors.Join(err, c.register(EventUnregister, event))
	})
}

// Listen registers for events and calls each for every one of them until ctx
// ends or the connection does, whose error it returns. The connection serves
// nothing else from then on.
func (c *Client) Listen(ctx context.Context, each func(event string, m Message), events ...string) error {
	return c.locked(ctx, func() error {
		for _, e := range events {
			if err := c.register(EventRegister, e); err != nil && !errors.Is(err, ErrUnknown) {
				return err
			}
		}
		for {
			p, err := ReadPacket(c.conn)
			if err != nil {
				return err
			}
			if p.Type == Event {
				each(p.Name, p.Message)
			}
		}
	})
}

func fatal(err error) bool {
	var refused *CommandError
	return err != nil && !errors.As(err, &refused) && !errors.Is(err, ErrUnknown)
}

// locked runs f alone, and closes the connection when ctx ends before f: what
// comes after an answer that nobody read could not be told apart.
func (c *Client) locked(ctx context.Context, f func() error) error {
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		c.Close()
		if err != nil {
			return fmt.Errorf("vici: %w", context.Cause(ctx))
		}
	} else if fatal(err) {
		c.Close()
	}
	return err
}

func (c *Client) send(p *Packet) error {
	b, err := p.Append(nil)
	if err != nil {
		return err
	}
	_, err = c.conn.Write(b)
	return err
}

func (c *Client) command(name string, args []Entry, event func(*Packet)) (Message, error) {
	if err := c.send(&Packet{Type: CmdRequest, Name: name, Message: args}); err != nil {
		return nil, fmt.Errorf("vici %s: %w", name, err)
	}
	for {
		p, err := ReadPacket(c.conn)
		if err != nil {
			return nil, fmt.Errorf("vici %s: %w", name, err)
		}
		switch {
		case p.Type == Event && event != nil:
			event(p)
		case p.Type == CmdUnknown:
			return nil, fmt.Errorf("vici %s: %w", name, ErrUnknown)
		case p.Type == CmdResponse && p.Message.Get("success") == "no":
			return p.Message, &CommandError{name, p.Message.Get("errmsg")}
		case p.Type == CmdResponse:
			return p.Message, nil
		case p.Type != Event:
			return nil, fmt.Errorf("vici %s: packet of type %d instead of an answer", name, p.Type)
		}
	}
}

func (c *Client) register(t PacketType, event string) error {
	if err := c.send(&Packet{Type: t, Name: event}); err != nil {
		return fmt.Errorf("vici register %s: %w", event, err)
	}
	for {
		p, err := ReadPacket(c.conn)
		if err != nil {
			return fmt.Errorf("vici register %s: %w", event, err)
		}
		switch p.Type {
		case EventConfirm:
			return nil
		case EventUnknown:
			return fmt.Errorf("vici register %s: %w", event, ErrUnknown)
		case Event: // of an earlier registration
		default:
			return fmt.Errorf("vici register %s: packet of type %d instead of an answer", event, p.Type)
		}
	}
}
