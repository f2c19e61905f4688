package api

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	redialMin   = 50 * time.Millisecond
	redialMax   = time.Second
	callTimeout = 5 * time.Second
)

// ClientConfig describes a client that follows carpd.
type ClientConfig struct {
	Socket    string
	Name      string   // as in `require`
	Version   string   // for people
	Groups    []string // to follow; with Instances empty too: all
	Instances []string // to follow the groups of
	Prepare   bool     // take part in changes of role
	Log       *slog.Logger
}

// Client follows carpd over restarts: it connects, says hello, subscribes, and
// delivers events. Methods may be called concurrently; while there is no
// connection they fail with ErrClosed.
type Client struct {
	cfg    ClientConfig
	events chan Message

	mu   sync.Mutex
	conn *Conn
}

// NewClient makes a client; Run starts it.
func NewClient(cfg ClientConfig) *Client {
	return &Client{cfg: cfg, events: make(chan Message, peerQueue)}
}

// Events delivers EventConnected, a snapshot of every followed group, events in
// order, and EventDisconnected when the connection ends; then again from the
// start. Reports (Ready, Demote) do not outlive a connection: repeat them after
// EventConnected. A state event carries the whole group, so the group of an
// instance is the one for which State.HasInstance holds.
func (c *Client) Events() <-chan Message { return c.events }

// Run connects and reconnects until ctx ends. It closes Events.
func (c *Client) Run(ctx context.Context) error {
	defer close(c.events)
	wait, told := redialMin, ""
	for ctx.Err() == nil {
		began := time.Now()
		err := c.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > redialMax {
			wait = redialMin
		}
		if text := err.Error(); text != told {
			c.cfg.Log.Warn("no connection to carpd", "err", err)
			told = text
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, redialMax)
	}
	return ctx.Err()
}

// session is the life of one connection.
func (c *Client) session(ctx context.Context) error {
	conn, err := Dial(ctx, c.cfg.Socket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer func() {
		conn.Close()
		for range conn.Events() { // let the reader end
		}
	}()
	call := func(r Request) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		_, err := conn.Call(ctx, r)
		return err
	}
	if err := call(Request{Verb: VerbHello, Name: c.cfg.Name, Version: c.cfg.Version,
		Prepare: c.cfg.Prepare}); err != nil {
		return err
	}
	c.deliver(ctx, Message{Event: EventConnected})
	// The snapshot comes before the reply, and prepare must not wait for it.
	subscribed := make(chan error, 1)
	c.set(conn)
	defer c.set(nil)
	go func() {
		err := call(Request{Verb: VerbSubscribe, Groups: c.cfg.Groups, Instances: c.cfg.Instances})
		if err != nil {
			conn.Close()
		}
		subscribed <- err
	}()
	for m := range conn.Events() {
		c.deliver(ctx, m)
	}
	err = <-subscribed
	if err == nil {
		err = ErrClosed
	}
	c.deliver(ctx, Message{Event: EventDisconnected, Reason: err.Error()})
	return err
}

func (c *Client) deliver(ctx context.Context, m Message) {
	select {
	case c.events <- m:
	case <-ctx.Done():
	}
}

func (c *Client) set(conn *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
}

// Call sends any request.
func (c *Client) Call(ctx context.Context, r Request) (Message, error) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return Message{}, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return conn.Call(ctx, r)
}

// Prepared answers a prepare event: carpd may go on.
func (c *Client) Prepared(ctx context.Context, group string, term uint64) error {
	_, err := c.Call(ctx, Request{Verb: VerbPrepared, Group: group, Term: term})
	return err
}

// Ready reports how the group stands, and the highest term known of it.
func (c *Client) Ready(ctx context.Context, group string, r Ready, term uint64) error {
	_, err := c.Call(ctx, Request{Verb: VerbReady, Group: group, Ready: &r, Term: term})
	return err
}

// Term reports a term seen elsewhere.
func (c *Client) Term(ctx context.Context, group string, term uint64) error {
	_, err := c.Call(ctx, Request{Verb: VerbTerm, Group: group, Term: term})
	return err
}

// Demote makes this node a lesser master, until Undemote or, by default, until
// the connection ends.
func (c *Client) Demote(ctx context.Context, group string, d Demotion) error {
	_, err := c.Call(ctx, Request{Verb: VerbDemote, Group: group, Demotion: &d})
	return err
}

// Undemote withdraws a demotion. One that is not there is no error.
func (c *Client) Undemote(ctx context.Context, group, id string) error {
	_, err := c.Call(ctx, Request{Verb: VerbUndemote, Group: group, Demotion: &Demotion{ID: id}})
	var no *RequestError
	if errors.As(err, &no) && no.Text == UnknownDemotion {
		return nil
	}
	return err
}

// UnknownDemotion is the refusal to withdraw a demotion that is not there.
const UnknownDemotion = "no such demotion"

// Resign begins a planned hand-over; hold is added to the time in which this
// node does not contend. The state event tells the end.
func (c *Client) Resign(ctx context.Context, group, reason string, hold time.Duration) error {
	_, err := c.Call(ctx, Request{Verb: VerbResign, Group: group, Reason: reason, HoldMS: hold.Milliseconds()})
	return err
}

// Takeover orders this node to become MASTER at once. The caller knows that the
// master of the given term has set its fence in our favour, and for how long it has
// been silent; 0 if not. What is shorter than a millisecond counts as one.
func (c *Client) Takeover(ctx context.Context, group string, term uint64, silent time.Duration) error {
	_, err := c.Call(ctx, Request{Verb: VerbTakeover, Group: group, Term: term,
		SilentMS: int64((silent + time.Millisecond - 1) / time.Millisecond)})
	return err
}

// HoldBack keeps this node from taking over, and from preempting whoever takes
// over meanwhile, for at most 30 s or until the connection ends; 0 ends that.
func (c *Client) HoldBack(ctx context.Context, group, reason string, d time.Duration) error {
	_, err := c.Call(ctx, Request{Verb: VerbHoldBack, Group: group, Reason: reason, HoldMS: d.Milliseconds()})
	return err
}

// Status returns the state of a group.
func (c *Client) Status(ctx context.Context, group string) (GroupState, error) {
	m, err := c.Call(ctx, Request{Verb: VerbStatus})
	if err != nil {
		return GroupState{}, err
	}
	for _, g := range m.Groups {
		if g.Group == group {
			return g, nil
		}
	}
	return GroupState{}, &RequestError{"no such group: " + group}
}
