// Package vicitest has a charon that is only its control interface.
package vicitest

import (
	"net"
	"path/filepath"
	"sync"
	"testing"

	"sasyncd/keying/vici"
)

// Server answers on a unix socket with what its handlers say.
type Server struct {
	Socket string

	listener net.Listener
	mu       sync.Mutex
	handlers map[string]Handler
	conns    map[*conn]bool
	stopped  bool
	calls    []string
	done     sync.WaitGroup
}

// Handler answers one command; events go to its connection before the answer.
type Handler func(args vici.Message) (answer vici.Message, events []vici.Packet)

type conn struct {
	net.Conn
	mu         sync.Mutex
	registered map[string]bool
}

// Start starts a server in a directory of the test; it ends with the test.
func Start(t *testing.T) *Server {
	t.Helper()
	s := &Server{Socket: filepath.Join(t.TempDir(), "charon.vici"), handlers: make(map[string]Handler)}
	s.Listen(t)
	t.Cleanup(s.Stop)
	return s
}

// Listen starts serving again after Stop.
func (s *Server) Listen(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", s.Socket)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	s.mu.Lock()
	s.listener, s.conns, s.stopped = l, make(map[*conn]bool), false
	s.mu.Unlock()
	s.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			vc := &conn{Conn: c, registered: make(map[string]bool)}
			if !s.admit(vc) {
				c.Close()
				return
			}
			s.done.Go(func() { s.serve(vc) })
		}
	})
}

// admit takes a new connection; false after Stop, which has closed those it
// knew of and would wait for this one for ever.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.conns[c] = true
	return true
}

// Stop closes the socket and all connections, as charon's death does.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.listener.Close()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.done.Wait()
}

// Handle sets the handler of a command.
func (s *Server) Handle(command string, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[command] = h
}

// Calls returns the commands so far, with their arguments, and forgets them.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls
	s.calls = nil
	return c
}

// Emit sends an event to all that have registered for it.
func (s *Server) Emit(event string, m vici.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.event(&vici.Packet{Type: vici.Event, Name: event, Message: m})
	}
}

func (c *conn) event(p *vici.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.registered[p.Name] {
		c.write(p)
	}
}

func (c *conn) write(p *vici.Packet) {
	if b, err := p.Append(nil); err == nil {
		_, _ = c.Write(b) // a client that has gone is not the server's concern
	}
}

func (s *Server) serve(c *conn) {
	defer c.Close()
	for {
		p, err := vici.ReadPacket(c)
		if err != nil {
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			return
		}
		switch p.Type {
		case vici.CmdRequest:
			s.mu.Lock()
			h := s.handlers[p.Name]
			call := p.Name
			if a := p.Message.String(); a != "" {
				call += " " + a
			}
			s.calls = append(s.calls, call)
			s.mu.Unlock()
			if h == nil {
				c.answer(&vici.Packet{Type: vici.CmdUnknown})
				continue
			}
			answer, events := h(p.Message)
			for i := range events {
				c.event(&events[i])
			}
			c.answer(&vici.Packet{Type: vici.CmdResponse, Message: answer})
		case vici.EventRegister, vici.EventUnregister:
			c.mu.Lock()
			c.registered[p.Name] = p.Type == vici.EventRegister
			c.mu.Unlock()
			t := vici.EventConfirm
			if p.Name == "no-such-event" {
				t = vici.EventUnknown
			}
			c.answer(&vici.Packet{Type: t})
		}
	}
}

func (c *conn) answer(p *vici.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write(p)
}
