package wire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Tap sees a frame at a port: what a machine sends before any fault, what it
// receives after all of them. It is called from one goroutine at a time, in
// order, and must not change the frame; it may keep it.
type Tap func(at time.Time, p *Port, w Way, frame []byte)

// Switch runs a [Core]. Its methods and those of its ports may be called from
// any goroutine.
type Switch struct {
	dir string
	tap Tap

	mu     sync.Mutex
	core   *Core
	ports  []*Port
	timer  *time.Timer
	closed bool
	done   sync.WaitGroup
}

// Port is a socket of a [Switch] that takes one machine at a time.
type Port struct {
	Name string // LAN-machine, unique
	LAN  string
	Path string // of the unix socket

	sw   *Switch
	id   PortID
	ln   *net.UnixListener
	conn *net.UnixConn // nil while nobody is plugged in
}

// maxFrame is far more than any guest's MTU.
const maxFrame = 1 << 16

// sendBuffer is what a machine that does not read may be behind, in bytes: a few
// thousand small frames. Who is not root gets less.
const sendBuffer = 8 << 20

// NewSwitch starts a switch. The tap may be nil. Its sockets are in a new
// directory with a short name, since paths of sockets are.
func NewSwitch(seed uint64, tap Tap) (*Switch, error) {
	dir, err := os.MkdirTemp("", "wire-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the switch: %w", err)
	}
	s := &Switch{dir: dir, tap: tap, core: NewCore(seed)}
	s.timer = time.AfterFunc(time.Hour, s.wake)
	return s, nil
}

// Port adds a port to a LAN for the named machine.
func (s *Switch) Port(lan, machine string) (*Port, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &Port{Name: lan + "-" + machine, LAN: lan, sw: s}
	p.Path = filepath.Join(s.dir, p.Name)
	var err error
	if p.ln, err = net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: p.Path}); err != nil {
		return nil, fmt.Errorf("open port %s: %w", p.Name, err)
	}
	p.id = s.core.AddPort(lan)
	s.ports = append(s.ports, p)
	s.done.Go(p.serve)
	return p, nil
}

// Close unplugs everything.
func (s *Switch) Close() {
	s.mu.Lock()
	s.closed = true
	s.timer.Stop()
	for _, p := range s.ports {
		p.ln.Close()
		if p.conn != nil {
			p.conn.Close()
		}
	}
	s.mu.Unlock()
	s.done.Wait()
	os.RemoveAll(s.dir)
}

// serve takes one machine after the other.
func (p *Port) serve() {
	for {
		c, err := p.ln.AcceptUnix()
		if err != nil {
			return // closed
		}
		if p.plug(c) {
			p.read(c)
			p.plug(nil)
		}
		c.Close()
	}
}

func (p *Port) plug(c *net.UnixConn) bool {
	s := p.sw
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if c != nil {
		allowBehind(c)
	}
	p.conn = c
	s.core.Plug(p.id, c != nil)
	return true
}

// allowBehind lets frames wait for a machine that stands still.
func allowBehind(c *net.UnixConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	// An error leaves the default, and what does not fit is counted.
	_ = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		}
	})
}

// read takes the machine's frames until it is gone.
func (p *Port) read(c *net.UnixConn) {
	buf := make([]byte, maxFrame)
	for {
		n, err := c.Read(buf)
		if err != nil || n == 0 {
			return
		}
		p.sw.receive(p, append([]byte(nil), buf[:n]...))
	}
}

func (s *Switch) receive(p *Port, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.tap != nil && len(frame) >= minFrame {
		s.tap(now, p, Out, frame)
	}
	s.core.Receive(now, p.id, frame)
	s.deliver(now)
}

// wake is the timer.
func (s *Switch) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliver(time.Now())
}

// deliver hands out what is due and sets the timer for what is not.
func (s *Switch) deliver(now time.Time) {
	if s.closed {
		return
	}
	for _, d := range s.core.Due(now) {
		p := s.ports[d.Port]
		if p.conn == nil || !p.write(d.Frame) {
			s.core.Full(d.Port)
			continue
		}
		if s.tap != nil {
			s.tap(now, p, In, d.Frame)
		}
	}
	if at, ok := s.core.Deadline(); ok {
		s.timer.Reset(max(0, time.Until(at)))
	}
}

// write sends a frame without waiting, and reports whether there was room.
func (p *Port) write(frame []byte) bool {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return false
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), frame, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
		return true
	})
	return errors.Join(err, sent) == nil
}

// Set changes the faults of the port in one direction. What is under way
// already is not touched.
func (p *Port) Set(w Way, f Fault) {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	p.sw.core.Set(p.id, w, f)
}

// Change changes the faults of the port in one direction by f.
func (p *Port) Change(w Way, f func(*Fault)) {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	fault := p.sw.core.Fault(p.id, w)
	f(&fault)
	p.sw.core.Set(p.id, w, fault)
}

// Heal removes all faults of the port.
func (p *Port) Heal() {
	p.Set(Out, Fault{})
	p.Set(In, Fault{})
}

// Count returns what passed the port in one direction so far.
func (p *Port) Count(w Way) Count {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	return p.sw.core.Count(p.id, w)
}

// Plugged reports whether a machine is plugged in.
func (p *Port) Plugged() bool {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	return p.conn != nil
}
