package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxRequest  = 64 << 10 // bytes of one request
	maxPeers    = 64
	acceptPause = 100 * time.Millisecond // when descriptors are short
	peerQueue   = 256                    // messages that wait for a slow reader
	daemonQueue = 4 * peerQueue          // that wait for a daemon
	peerTimeout = 2 * time.Second        // for one write
)

// Peer is a connected client. ID is unique for the life of the server and never
// 0. Trusted peers are root and the users of the daemons.
type Peer struct {
	ID      uint64
	UID     uint32
	PID     int32
	Trusted bool
}

// Handler carries out requests. Its methods must return soon; the reply goes
// through Server.Send, in order with events.
type Handler interface {
	Request(p Peer, r Request)
	Gone(p Peer)
}

// Server accepts clients on a unix socket. When all places are taken a new
// client gets that of one that never asked for anything, or, if it is trusted,
// that of one that is not (see makePlace): nobody can keep the daemons away by connecting.
type Server struct {
	handler Handler
	trusted []uint32
	log     *slog.Logger
	refused refusals

	mu    sync.Mutex
	peers map[uint64]*peerConn
	next  uint64
}

type peerConn struct {
	peer Peer
	conn net.Conn
	out  mailbox
	// asked is set by the first request; the server's lock guards it.
	asked bool
	// daemon is a trusted client that has a name: the election depends on it, so
	// it may be slow. leaving: the server ends, so it may not.
	daemon, leaving atomic.Bool
}

// newPeerConn makes a client of a connection.
func newPeerConn(p Peer, conn net.Conn) *peerConn {
	return &peerConn{peer: p, conn: conn, out: newMailbox()}
}

// NewServer makes a server. Trusted lists the user ids that may change things;
// root always may.
func NewServer(h Handler, trusted []uint32, log *slog.Logger) *Server {
	return &Server{handler: h, trusted: trusted, log: log, peers: make(map[uint64]*peerConn)}
}

// Serve accepts until ctx ends, which also closes the listener and all
// connections.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.AcceptUnix()
		switch {
		case err == nil:
		case ctx.Err() == nil && !errors.Is(err, net.ErrClosed):
			// Descriptors or memory are short, which passes: the election does not
			// end for it.
			s.refused.unaccepted.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		default:
			s.closeAll()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept control connection: %w", err)
		}
		p, err := s.admit(conn)
		if err != nil {
			s.log.Debug("control connection refused", "err", err) // counted; whoever floods shall not fill the log
			conn.Close()
			continue
		}
		wg.Go(func() { s.read(p) })
		wg.Go(func() { s.write(p) })
	}
}

func (s *Server) admit(conn *net.UnixConn) (*peerConn, error) {
	uid, pid, err := credentials(conn)
	if err != nil {
		return nil, err
	}
	trusted := uid == 0 || slices.Contains(s.trusted, uid)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.peers) >= maxPeers {
		s.refused.busy.Add(1)
		if !s.makePlace(trusted) {
			return nil, errors.New("too many connections")
		}
	}
	s.next++
	p := newPeerConn(Peer{ID: s.next, UID: uid, PID: pid, Trusted: trusted}, conn)
	s.peers[p.peer.ID] = p
	return p, nil
}

// makePlace cuts off the oldest client that has not asked for anything, else the
// oldest that is not trusted in favour of one that is. One that is trusted never
// gives way to one that is not. The caller holds the lock.
func (s *Server) makePlace(trusted bool) bool {
	var silent, stranger *peerConn
	for _, p := range s.peers {
		if p.peer.Trusted && !trusted {
			continue
		}
		if !p.asked && (silent == nil || p.peer.ID < silent.peer.ID) {
			silent = p
		}
		if !p.peer.Trusted && (stranger == nil || p.peer.ID < stranger.peer.ID) {
			stranger = p
		}
	}
	victim := silent
	if victim == nil && trusted {
		victim = stranger
	}
	if victim == nil {
		return false
	}
	s.cut(victim)
	return true
}

// cut ends a client. The caller holds the lock.
func (s *Server) cut(p *peerConn) {
	delete(s.peers, p.peer.ID)
	p.out.close()
	p.conn.Close()
}

func credentials(conn *net.UnixConn) (uid uint32, pid int32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, fmt.Errorf("get peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var inner error
	err = raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, inner); err != nil {
		return 0, 0, fmt.Errorf("get peer credentials: %w", err)
	}
	return cred.Uid, cred.Pid, nil
}

func (s *Server) read(p *peerConn) {
	defer func() {
		s.drop(p)
		s.handler.Gone(p.peer)
	}()
	in := newLines(p.conn, maxRequest)
	for {
		var r Request
		if err := in.next(&r); err != nil {
			if errors.Is(err, errLine) || errors.Is(err, errNoRequest) {
				s.refused.malformed.Add(1)
			}
			return
		}
		s.mu.Lock()
		p.asked = true
		s.mu.Unlock()
		if !p.peer.Trusted && !readOnly(r.Verb) {
			s.refused.denied.Add(1)
			s.Send(p.peer.ID, Message{ID: r.ID, Error: "permission denied: " + r.Verb +
				" is for root and the daemons' users"})
			continue
		}
		if r.Verb == VerbHello && r.Name != "" && p.peer.Trusted {
			p.daemon.Store(true)
		}
		s.handler.Request(p.peer, r)
	}
}

func (s *Server) write(p *peerConn) {
	defer p.conn.Close()
	for seq := uint64(0); ; {
		m, ok := p.out.take()
		if !ok {
			return
		}
		if m.Event != "" {
			seq++
			m.Seq = seq
		}
		b, err := line(m)
		if err != nil {
			s.log.Error("cannot encode message", "err", err)
			continue
		}
		if p.writeAll(b) != nil {
			return
		}
	}
}

// writeAll writes a line. A daemon may take as long as it likes, while what waits
// for it is bounded.
func (p *peerConn) writeAll(b []byte) error {
	for {
		if err := p.conn.SetWriteDeadline(time.Now().Add(peerTimeout)); err != nil {
			return fmt.Errorf("write to client: %w", err)
		}
		n, err := p.conn.Write(b)
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !p.daemon.Load() || p.leaving.Load() {
			return fmt.Errorf("write to client: %w", err)
		}
		b = b[n:]
	}
}

// Send queues a message for a peer. It does not block. An event that a later one
// of its kind makes obsolete (see supersedes) takes the place of the one that
// waits; a peer for which too many others wait is cut off. Messages to one peer
// arrive in the order of the calls, so calls for one peer must not be concurrent.
// A peer that has gone is no error. What the message points to must not change.
func (s *Server) Send(to uint64, m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[to]
	if p == nil {
		return
	}
	limit := peerQueue
	if p.daemon.Load() {
		limit = daemonQueue
	}
	if !p.out.put(m, limit) {
		s.refused.slow.Add(1)
		s.log.Warn("client does not read, cut off", "uid", p.peer.UID, "pid", p.peer.PID)
		s.cut(p)
	}
}

func (s *Server) drop(p *peerConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p.peer.ID)
	p.out.close()
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.peers {
		delete(s.peers, id)
		p.leaving.Store(true)
		p.out.close()
		// The writer closes the connection when the rest is out; this is for a
		// reader that still waits.
		_ = p.conn.SetReadDeadline(time.Now())
	}
}
