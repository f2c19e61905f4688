package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// ControlClient speaks to a daemon's control socket. It is for one goroutine.
type ControlClient struct {
	conn net.Conn
	sc   *bufio.Scanner
	// Patience is the longest wait for a line of an answer, 0 for any. A daemon
	// that stands still accepts connections all the same.
	Patience time.Duration
}

// DialControl connects to the socket at path. An error wraps ErrUnreachable.
func DialControl(ctx context.Context, path string) (*ControlClient, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	sc := bufio.NewScanner(c)
	sc.Buffer(nil, maxAnswer)
	return &ControlClient{conn: c, sc: sc}, nil
}

// Close closes the connection.
func (c *ControlClient) Close() error { return c.conn.Close() }

// Call sends a request and gives each data line of the answer to each, which
// may be nil. It returns a *CallError if the daemon refuses, an error of each,
// ctx's error, or one that wraps ErrUnreachable if the daemon went away. After
// any error but a *CallError the client can only be closed.
func (c *ControlClient) Call(ctx context.Context, verb string, args any, each func(data json.RawMessage) error) error {
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })()
	req := request{Verb: verb}
	if args != nil {
		raw, err := json.Marshal(args)
		if err != nil {
			return fmt.Errorf("encode arguments of %s: %w", verb, err)
		}
		req.Args = raw
	}
	line, err := encode(req)
	if err != nil {
		return fmt.Errorf("encode request %s: %w", verb, err)
	}
	if _, err := c.conn.Write(line); err != nil {
		return c.gone(ctx, err)
	}
	for c.next(ctx) {
		var r response
		if err := json.Unmarshal(c.sc.Bytes(), &r); err != nil {
			return fmt.Errorf("read answer to %s: %w", verb, err)
		}
		switch {
		case r.Error != "":
			return &CallError{r.Code, r.Error}
		case r.OK:
			return nil
		case each != nil:
			if err := each(append(json.RawMessage(nil), r.Data...)); err != nil {
				return err
			}
		}
	}
	return c.gone(ctx, c.sc.Err())
}

// next waits for a line.
func (c *ControlClient) next(ctx context.Context) bool {
	if c.Patience > 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(c.Patience))
		if ctx.Err() != nil { // this may have undone what its end has done
			return false
		}
	}
	return c.sc.Scan()
}

func (c *ControlClient) gone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: it has not answered for %v", ErrUnreachable, c.Patience)
	}
	if err == nil {
		return fmt.Errorf("%w: it closed the connection", ErrUnreachable)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// Get calls a verb whose answer is one line and decodes it into v.
func (c *ControlClient) Get(ctx context.Context, verb string, args, v any) error {
	seen := false
	err := c.Call(ctx, verb, args, func(data json.RawMessage) error {
		seen = true
		if err := json.Unmarshal(data, v); err != nil {
			return fmt.Errorf("read answer to %s: %w", verb, err)
		}
		return nil
	})
	if err == nil && !seen {
		return fmt.Errorf("read answer to %s: it is empty", verb)
	}
	return err
}
