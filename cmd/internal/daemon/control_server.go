package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxClients   = 64
	writeTimeout = 5 * time.Second
)

// Verb is one request that a daemon answers. Handle returns when the answer is
// complete; it must end soon after ctx does.
type Verb struct {
	// Changes marks verbs that change state: only for root, the daemon's own
	// user, and the users named to the server.
	Changes bool
	Handle  func(ctx context.Context, call *Call) error
}

// ControlServer answers requests on a unix socket. It is a Task. Verbs of
// several clients run at the same time. When all places are taken, a new client
// gets that of the one that has been waiting longest without being answered:
// nobody can keep others away by connecting.
type ControlServer struct {
	path  string
	log   *slog.Logger
	verbs map[string]Verb
	users []uint32
	ready chan struct{}

	lock *os.File
	mu   sync.Mutex
	open map[net.Conn]*client
	wg   sync.WaitGroup

	// Refused counts what was turned away.
	Refused Refusals
}

// client is one connection.
type client struct {
	since time.Time // it was accepted, or answered last
	busy  bool      // being answered
}

// NewControlServer returns a server on path, of mode 0660: whoever may open the
// socket may ask; who may change something is decided by the caller's user.
func NewControlServer(path string, log *slog.Logger, verbs map[string]Verb, users ...uint32) *ControlServer {
	return &ControlServer{path: path, log: log, verbs: verbs, ready: make(chan struct{}),
		users: append([]uint32{0, uint32(os.Geteuid())}, users...), open: map[net.Conn]*client{}}
}

// Ready is closed when the socket accepts connections.
func (s *ControlServer) Ready() <-chan struct{} { return s.ready }

// String names the task.
func (s *ControlServer) String() string { return "control socket" }

// Run serves until ctx ends and removes the socket.
func (s *ControlServer) Run(ctx context.Context) error {
	ln, err := s.listen()
	if err != nil {
		return err
	}
	hangUp := func() {
		ln.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.open {
			c.Close()
		}
	}
	defer s.lock.Close()
	defer s.wg.Wait()
	defer os.Remove(s.path)
	defer hangUp()
	defer context.AfterFunc(ctx, hangUp)()
	close(s.ready)
	for {
		c, err := ln.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, net.ErrClosed):
			s.Refused.add(refusedAccept)
			select { // descriptors or memory are short, not the socket broken
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		case err != nil:
			return fmt.Errorf("accept on control socket: %w", err)
		default:
			s.accept(ctx, c)
		}
	}
}

// listen makes the socket. It is bound under another name and renamed, so that
// it never exists with other permissions, and a lock beside it keeps a second
// daemon from taking the name away from the first.
func (s *ControlServer) listen() (_ *net.UnixListener, err error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of control socket: %w", err)
	}
	s.lock, err = os.OpenFile(s.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock control socket: %w", err)
	}
	defer func() {
		if err != nil {
			s.lock.Close()
		}
	}()
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("listen on %s: another daemon is running", s.path)
		}
		return nil, fmt.Errorf("lock control socket: %w", err)
	}
	next := s.path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	if err = os.Chmod(next, 0o660); err == nil {
		err = os.Rename(next, s.path)
	}
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("place control socket: %w", err)
	}
	return ln, nil
}

func (s *ControlServer) accept(ctx context.Context, c *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		c.Close()
		return
	}
	if len(s.open) >= maxClients {
		s.Refused.add(refusedBusy)
		if !s.makePlace() {
			c.Close()
			return
		}
	}
	s.open[c] = &client{since: time.Now()}
	s.wg.Go(func() {
		defer func() {
			c.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.open, c)
		}()
		peer, err := credentials(c)
		if err != nil {
			s.log.Warn("ask for credentials of control client", "err", err)
			return
		}
		s.serve(ctx, c, peer)
	})
}

// makePlace hangs up on the client that has not been answered for the longest
// time. The caller holds the lock.
func (s *ControlServer) makePlace() bool {
	var idlest net.Conn
	for c, x := range s.open {
		if !x.busy && (idlest == nil || x.since.Before(s.open[idlest].since)) {
			idlest = c
		}
	}
	if idlest == nil {
		return false
	}
	delete(s.open, idlest)
	idlest.Close()
	return true
}

// answering notes whether a client is being answered.
func (s *ControlServer) answering(c net.Conn, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.open[c]; x != nil {
		x.busy, x.since = busy, time.Now()
	}
}

// serve answers the requests of one client. A goroutine reads ahead by one
// line, so that a client that hangs up cancels what is being answered.
func (s *ControlServer) serve(ctx context.Context, c net.Conn, peer Peer) {
	ctx, cancel := context.WithCancel(ctx)
	lines := make(chan []byte)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer cancel()
		defer close(lines)
		sc := bufio.NewScanner(c)
		sc.Buffer(nil, maxRequest)
		for sc.Scan() {
			select {
			case lines <- append([]byte(nil), sc.Bytes()...):
			case <-ctx.Done():
				return
			}
		}
		if errors.Is(sc.Err(), bufio.ErrTooLong) {
			s.Refused.add(refusedMalformed)
		}
	})
	defer reader.Wait()
	defer c.Close()
	defer cancel()
	send := func(r response) error {
		b, err := encode(r)
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return fmt.Errorf("send answer: %w", err)
		}
		if _, err := c.Write(b); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.Refused.add(refusedSlow)
			}
			cancel()
			return fmt.Errorf("send answer: %w", err)
		}
		return nil
	}
	for line := range lines {
		s.answering(c, true)
		last := response{OK: true}
		if err := s.answer(ctx, line, peer, send); err != nil {
			last = response{Error: err.Error(), Code: CodeFailed}
			if ce := (*CallError)(nil); errors.As(err, &ce) {
				last.Code = ce.Code
			}
			switch last.Code {
			case CodeBad, CodeUnknown:
				s.Refused.add(refusedMalformed)
			case CodeDenied:
				s.Refused.add(refusedDenied)
			}
		}
		if send(last) != nil {
			return
		}
		s.answering(c, false)
	}
}

func (s *ControlServer) answer(ctx context.Context, line []byte, peer Peer, send func(response) error) error {
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		return Bad("not a request: %v", err)
	}
	verb, ok := s.verbs[req.Verb]
	switch {
	case !ok:
		return &CallError{CodeUnknown, fmt.Sprintf("no verb %q", req.Verb)}
	case verb.Changes && !slices.Contains(s.users, peer.UID):
		s.log.Warn("refused control request", "verb", req.Verb, "uid", peer.UID, "pid", peer.PID)
		return &CallError{CodeDenied, fmt.Sprintf("%s is for root and the daemon's user", req.Verb)}
	case verb.Changes:
		s.log.Info("control request", "verb", req.Verb, "uid", peer.UID, "pid", peer.PID)
	}
	return verb.Handle(ctx, &Call{Verb: req.Verb, Args: req.Args, Peer: peer, send: send})
}

// credentials asks the kernel who connected (SO_PEERCRED, unix(7)).
func credentials(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("reach socket: %w", err)
	}
	var cred *unix.Ucred
	var opt error
	err = raw.Control(func(fd uintptr) {
		cred, opt = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, opt); err != nil {
		return Peer{}, fmt.Errorf("read SO_PEERCRED: %w", err)
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}, nil
}
