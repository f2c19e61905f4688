package privsep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/keying"
)

// maxAnswer is the most that a control program's output may be, in bytes.
const maxAnswer = 8 << 20

// Client is keying.Privileged in a process that has no privileges itself. Its
// methods are safe for concurrent use.
type Client struct {
	dial func() (*net.UnixConn, error)

	mu      sync.Mutex
	session *session
}

var _ keying.Privileged = (*Client)(nil)

// NewClient returns a client of the privileged process at the other end of
// conn. When that ends, so does all use of the client: see Ended.
func NewClient(conn *net.UnixConn) *Client {
	return &Client{session: newSession(conn)}
}

// NewLazyClient returns a client that connects when it is used, and again after
// the connection was lost.
func NewLazyClient(dial func() (*net.UnixConn, error)) *Client { return &Client{dial: dial} }

// Ended is closed when the connection that NewClient was given is lost.
func (c *Client) Ended() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.ended
}

// Close ends the connection.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		c.session.conn.Close()
	}
}

// use returns a connection that is not known to be lost.
func (c *Client) use() (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		select {
		case <-c.session.ended:
		default:
			return c.session, nil
		}
	}
	if c.dial == nil {
		return nil, errors.New("ask the privileged process: it has ended")
	}
	conn, err := c.dial()
	if err != nil {
		return nil, fmt.Errorf("ask the privileged process: %w", err)
	}
	c.session = newSession(conn)
	return c.session, nil
}

func (c *Client) call(ctx context.Context, r Request) (string, *os.File, error) {
	s, err := c.use()
	if err != nil {
		return "", nil, err
	}
	a, err := s.call(ctx, r)
	if err != nil {
		return "", nil, err
	}
	return string(a.text), a.file, nil
}

func (c *Client) do(ctx context.Context, r Request) error {
	_, f, err := c.call(ctx, r)
	if f != nil {
		f.Close()
	}
	return err
}

// Running implements keying.Privileged.
func (c *Client) Running(ctx context.Context, d keying.Daemon) error {
	return c.do(ctx, Request{Op: OpRunning, Daemon: d})
}

// Dial implements keying.Privileged. What is written is checked by the
// privileged process (vici.Check).
func (c *Client) Dial(ctx context.Context, d keying.Daemon) (net.Conn, error) {
	_, f, err := c.call(ctx, Request{Op: OpDial, Daemon: d})
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, fmt.Errorf("connect to %s: the privileged process has sent no connection", d)
	}
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d, err)
	}
	return conn, nil
}

// Tell implements keying.Privileged.
func (c *Client) Tell(ctx context.Context, d keying.Daemon, line string) error {
	return c.do(ctx, Request{Op: OpTell, Daemon: d, Line: line})
}

// Kill implements keying.Privileged.
func (c *Client) Kill(ctx context.Context, d keying.Daemon) error {
	return c.do(ctx, Request{Op: OpKill, Daemon: d})
}

// Start implements keying.Privileged.
func (c *Client) Start(ctx context.Context, d keying.Daemon) error {
	return c.do(ctx, Request{Op: OpStart, Daemon: d})
}

// Control implements keying.Privileged.
func (c *Client) Control(ctx context.Context, d keying.Daemon, v keying.Verb) (string, error) {
	text, _, err := c.call(ctx, Request{Op: OpControl, Daemon: d, Verb: v})
	return text, err
}

// Unit implements keying.Privileged.
func (c *Client) Unit(ctx context.Context, d keying.Daemon) (map[string]string, error) {
	text, _, err := c.call(ctx, Request{Op: OpUnit, Daemon: d})
	if err != nil || text == "" {
		return nil, err
	}
	var props map[string]string
	if err := json.Unmarshal([]byte(text), &props); err != nil {
		return nil, fmt.Errorf("show unit of %s: %w", d, err)
	}
	return props, nil
}

// Hook implements keying.Privileged.
func (c *Client) Hook(ctx context.Context, o keying.Order) error {
	return c.do(ctx, Request{Op: OpHook, Order: o})
}

// Open opens a file of the configuration for reading.
func (c *Client) Open(ctx context.Context, path string) (*os.File, error) {
	_, f, err := c.call(ctx, Request{Op: OpOpen, Path: path})
	if err == nil && f == nil {
		err = fmt.Errorf("open %s: the privileged process has sent no file", path)
	}
	return f, err
}

// answer is the whole of what a request got.
type answer struct {
	text []byte
	file *os.File
	err  error
}

// session is a connection. A goroutine of it reads until the connection ends.
type session struct {
	conn  *net.UnixConn
	ended chan struct{}

	mu      sync.Mutex
	last    uint32
	waiting map[uint32]*waiter
}

type waiter struct {
	text []byte
	done chan answer
}

func newSession(conn *net.UnixConn) *session {
	s := &session{conn: conn, ended: make(chan struct{}), waiting: make(map[uint32]*waiter)}
	go s.read()
	return s
}

func (s *session) call(ctx context.Context, r Request) (answer, error) {
	w := &waiter{done: make(chan answer, 1)}
	s.mu.Lock()
	s.last++
	r.ID = s.last
	s.waiting[r.ID] = w
	s.mu.Unlock()
	if err := s.send(r); err != nil {
		s.forget(r.ID)
		return answer{}, fmt.Errorf("ask the privileged process: %w", err)
	}
	select {
	case a := <-w.done:
		return a, a.err
	case <-ctx.Done():
		s.forget(r.ID)
		_ = s.send(Request{ID: r.ID, Op: OpCancel}) // it ends by itself, too
		return answer{}, fmt.Errorf("%s by the privileged process: %w", r.Op, ctx.Err())
	case <-s.ended:
		s.forget(r.ID)
		return answer{}, fmt.Errorf("%s by the privileged process: it has ended", r.Op)
	}
}

func (s *session) send(r Request) error {
	b, err := r.Append(nil)
	if err == nil {
		err = s.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	}
	if err == nil {
		_, err = s.conn.Write(b)
	}
	return err
}

func (s *session) forget(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

// read takes replies until the connection ends or one is not understood.
func (s *session) read() {
	defer close(s.ended)
	defer s.conn.Close()
	buf, oob := make([]byte, maxReply), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, flags, _, err := s.conn.ReadMsgUnix(buf, oob)
		if err != nil || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			return
		}
		file := descriptor(oob[:oobn])
		r, err := ParseReply(buf[:n])
		if err != nil || !s.reply(r, file) {
			if file != nil {
				file.Close()
			}
			if err != nil {
				return
			}
		}
	}
}

// reply reports whether somebody has taken the file.
func (s *session) reply(r Reply, file *os.File) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[r.ID]
	if w == nil {
		return false
	}
	if r.Status == StatusMore {
		w.text = append(w.text, r.Data[:min(len(r.Data), maxAnswer-len(w.text))]...)
		return false
	}
	delete(s.waiting, r.ID)
	a := answer{text: w.text}
	if r.Status == StatusOK {
		a.file = file
	} else {
		a.err = &remoteError{string(r.Data), r.Status}
	}
	w.done <- a
	return a.file != nil
}

// descriptor returns what came with a packet, nil if nothing did.
func descriptor(oob []byte) *os.File {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) != 1 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil
	}
	return os.NewFile(uintptr(fds[0]), "passed")
}

// remoteError is an error of the privileged process.
type remoteError struct {
	text   string
	status Status
}

func (e *remoteError) Error() string { return e.text }

// Judged reports whether an error is the privileged process's own judgement of a
// request, which it would repeat. All others may pass: no connection, no answer in
// time, a process that has ended, or one that has failed itself.
func Judged(err error) bool {
	e, ok := errors.AsType[*remoteError](err)
	return ok && (e.status == StatusRefused || e.status == StatusAbsent || e.status == StatusPermission)
}

// Unwrap returns what callers ask for.
func (e *remoteError) Unwrap() error {
	switch e.status {
	case StatusNotRunning:
		return keying.ErrNotRunning
	case StatusRefused:
		return ErrRefused
	case StatusAbsent:
		return fs.ErrNotExist
	case StatusPermission:
		return fs.ErrPermission
	}
	return nil
}
