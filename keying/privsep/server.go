package privsep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/trusted"
	"sasyncd/keying"
	"sasyncd/keying/vici"
)

// ErrRefused is what is not configured, or not of a form that is ever asked for.
var ErrRefused = errors.New("refused by the privileged process")

// ErrUnread is a configuration that could not be read for a reason that has nothing
// to do with it. What it allows is not known, and asking again may help.
var ErrUnread = errors.New("the configuration could not be read")

// Rules are what the configuration allows.
type Rules struct {
	Daemons []keying.Daemon // that may be switched
	// Hooks are the programs of `control exec`, by group.
	Hooks map[string]string
	// Places are where the daemons are.
	Places map[keying.Daemon]keying.Place
	// Files may be opened for reading, as the configuration is now.
	Files []string
}

// Source is the configuration as the privileged process reads it itself.
type Source interface {
	// Rules reads it anew. Its error is ErrUnread where asking again may help.
	Rules() (Rules, error)
	// Open opens one of its files, of which the server has made sure that the
	// rules name it.
	Open(path string) (*os.File, error)
}

// Limits of a connection.
const (
	maxUnderWay = 32               // requests
	maxDialled  = 16               // connections to IKE daemons that are open
	opLimit     = 60 * time.Second // for any request
	writeLimit  = 10 * time.Second // for a client to take a reply
)

// Server answers requests. Daemons and hooks are those of the configuration at
// the time of the first request that needs them; files, those of now.
type Server struct {
	source Source
	priv   func(Rules) keying.Privileged
	log    *slog.Logger
}

// NewServer returns a server that acts through what priv returns for the rules.
func NewServer(source Source, priv func(Rules) keying.Privileged, log *slog.Logger) *Server {
	return &Server{source: source, priv: priv, log: log}
}

// Serve answers requests on a connection until the other side closes it, ctx
// ends, or the other side sends what it never would. It closes the connection,
// and returns when nothing that was asked for is under way any more.
func (s *Server) Serve(ctx context.Context, conn *net.UnixConn) error {
	ctx, cancel := context.WithCancel(ctx)
	c := &connection{Server: s, conn: conn, room: make(chan struct{}, maxUnderWay),
		dialled: make(chan struct{}, maxDialled),
		cancels: make(map[uint32]context.CancelFunc)}
	defer c.work.Wait()
	defer conn.Close()
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	buf := make([]byte, MaxRequest)
	for {
		n, _, flags, _, err := conn.ReadMsgUnix(buf, nil)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("read request: %w", err)
		case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
			return fmt.Errorf("%w: a packet is larger than %d bytes, or has a descriptor", ErrRefused, MaxRequest)
		}
		req, err := ParseRequest(buf[:n])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		if err := c.begin(ctx, req); err != nil {
			return err
		}
	}
}

// connection is a client.
type connection struct {
	*Server
	conn    *net.UnixConn
	room    chan struct{}
	dialled chan struct{}
	work    sync.WaitGroup
	once    sync.Once
	rules   Rules
	doer    keying.Privileged
	ruleErr error

	mu      sync.Mutex
	cancels map[uint32]context.CancelFunc
	write   sync.Mutex
}

// begin starts the work for a request.
func (c *connection) begin(ctx context.Context, req Request) error {
	if req.Op == OpCancel {
		c.mu.Lock()
		defer c.mu.Unlock()
		if f := c.cancels[req.ID]; f != nil {
			f()
		}
		return nil
	}
	select {
	case c.room <- struct{}{}:
	default: // to wait would be not to notice its end
		return fmt.Errorf("%w: more than %d requests are under way", ErrRefused, maxUnderWay)
	}
	work, cancel := context.WithTimeout(ctx, opLimit)
	c.mu.Lock()
	_, twice := c.cancels[req.ID]
	if !twice {
		c.cancels[req.ID] = cancel
	}
	c.mu.Unlock()
	if twice {
		cancel()
		return fmt.Errorf("%w: request %d is under way", ErrRefused, req.ID)
	}
	c.work.Go(func() {
		text, file, err := c.do(work, req)
		c.mu.Lock()
		delete(c.cancels, req.ID)
		c.mu.Unlock()
		cancel()
		c.answer(req, text, file, err)
		<-c.room
	})
	return nil
}

// allowed reads the rules, once.
func (c *connection) allowed() (Rules, error) {
	c.once.Do(func() {
		c.rules, c.ruleErr = c.source.Rules()
		if c.ruleErr == nil {
			c.doer = c.priv(c.rules)
		}
	})
	return c.rules, c.ruleErr
}

// do carries out a request. The file, if any, is for the client.
func (c *connection) do(ctx context.Context, r Request) (text string, file *os.File, err error) {
	if r.Op == OpOpen {
		rules, err := c.source.Rules()
		if errors.Is(err, ErrUnread) {
			return "", nil, fmt.Errorf("open %q: %w", r.Path, err)
		}
		// A configuration that cannot be understood is the client's to report.
		if !slices.Contains(rules.Files, r.Path) {
			return "", nil, errors.Join(fmt.Errorf("open %q: %w: the configuration does not name it", r.Path,
				ErrRefused), err)
		}
		file, err := c.source.Open(r.Path)
		return "", file, err
	}
	rules, err := c.allowed()
	if err != nil {
		return "", nil, err
	}
	if r.Op == OpHook {
		if _, ok := rules.Hooks[r.Order.Group]; !ok {
			return "", nil, fmt.Errorf("run hook of group %q: %w: none is configured", r.Order.Group, ErrRefused)
		}
		return "", nil, c.doer.Hook(ctx, r.Order)
	}
	d := r.Daemon
	if !slices.Contains(rules.Daemons, d) {
		return "", nil, fmt.Errorf("%s %s: %w: it is not configured", r.Op, d, ErrRefused)
	}
	switch r.Op {
	case OpRunning:
		err = c.doer.Running(ctx, d)
	case OpDial:
		file, err = c.dial(ctx, d)
	case OpTell:
		err = c.doer.Tell(ctx, d, r.Line)
	case OpKill:
		c.log.Info("kill", "daemon", string(d))
		err = c.doer.Kill(ctx, d)
	case OpStart:
		c.log.Info("start", "daemon", string(d))
		err = c.doer.Start(ctx, d)
	case OpControl:
		text, err = c.doer.Control(ctx, d, r.Verb)
	case OpUnit:
		var props map[string]string
		if props, err = c.doer.Unit(ctx, d); err == nil && props != nil {
			var b []byte
			b, err = json.Marshal(props)
			text = string(b)
		}
	}
	return text, file, err
}

// dial connects to an IKE daemon and returns the other end of what is filtered
// into that connection: whoever has charon's socket itself is root.
func (c *connection) dial(ctx context.Context, d keying.Daemon) (*os.File, error) {
	if d != keying.StrongSwan {
		return nil, fmt.Errorf("connect to %s: %w: only its control program is used", d, ErrRefused)
	}
	select {
	case c.dialled <- struct{}{}:
	default:
		return nil, fmt.Errorf("connect to %s: %w: %d connections are open", d, ErrRefused, maxDialled)
	}
	daemon, err := c.doer.Dial(ctx, d)
	if err != nil {
		<-c.dialled
		return nil, err
	}
	ours, outer, err := pair(unix.SOCK_STREAM)
	var inner net.Conn
	if err == nil {
		inner, err = net.FileConn(ours)
		ours.Close()
	}
	if err != nil {
		daemon.Close()
		<-c.dialled
		return nil, err
	}
	end := sync.OnceFunc(func() { daemon.Close(); inner.Close() })
	// They outlive the client's connection by as much as it takes the client,
	// which holds the other end, to die.
	var pumps sync.WaitGroup
	pumps.Go(func() {
		defer end()
		if err := vici.Filter(daemon, inner); errors.Is(err, vici.ErrRefused) {
			c.log.Warn("request to the ike daemon refused", "daemon", string(d), "err", err)
		}
	})
	pumps.Go(func() {
		defer end()
		_, _ = io.Copy(inner, daemon)
	})
	go func() {
		pumps.Wait()
		<-c.dialled
	}()
	return outer, nil
}

// Pair returns both ends of a connection between a Client and a Server.
func Pair() (client, server *os.File, err error) { return pair(unix.SOCK_SEQPACKET) }

func pair(kind int) (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "pair"), os.NewFile(uintptr(fds[1]), "pair"), nil
}

// Conn returns the connection of which f is an end, and closes f. Anything but
// a connected unix socket that keeps packets apart is an error.
func Conn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	kind, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return nil, errors.New("descriptor is not a connection between the processes of sasyncd")
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use connection between the processes of sasyncd: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("descriptor is not a unix socket")
	}
	return u, nil
}

// answer sends the outcome of a request. A client that does not take it is cut off.
func (c *connection) answer(r Request, text string, file *os.File, err error) {
	last := Reply{ID: r.ID}
	if err != nil {
		last.Status = statusOf(err)
		if last.Status == StatusRefused {
			c.log.Warn("request refused", "err", err)
		}
		msg := err.Error()
		last.Data = []byte(msg[:min(len(msg), 4096)])
	}
	var oob []byte
	if file != nil {
		defer file.Close()
		oob = unix.UnixRights(int(file.Fd()))
	}
	c.write.Lock()
	defer c.write.Unlock()
	for len(text) > 0 {
		n := min(len(text), maxReply-5)
		part := Reply{ID: r.ID, Status: StatusMore, Data: []byte(text[:n])}
		if !c.send(part, nil) {
			return
		}
		text = text[n:]
	}
	c.send(last, oob)
}

func (c *connection) send(r Reply, oob []byte) bool {
	err := c.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	if err == nil {
		_, _, err = c.conn.WriteMsgUnix(r.Append(nil), oob, nil)
	}
	if err != nil {
		c.conn.Close()
	}
	return err == nil
}

func statusOf(err error) Status {
	if _, ok := errors.AsType[*trusted.Error](err); ok {
		return StatusPermission // nor will it be opened later
	}
	for _, s := range []struct {
		is error
		as Status
	}{{ErrRefused, StatusRefused}, {keying.ErrNotRunning, StatusNotRunning}, {fs.ErrNotExist, StatusAbsent},
		{fs.ErrPermission, StatusPermission}} {
		if errors.Is(err, s.is) {
			return s.as
		}
	}
	return StatusFailed
}
