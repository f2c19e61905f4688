package channel

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sasyncd/sync/wire"
)

const (
	// WriteTimeout is how long the other side may take to accept a piece of
	// at most writeChunk bytes.
	WriteTimeout = 5 * time.Second

	// helloTimeout bounds the wait for the first frame.
	helloTimeout = 5 * time.Second

	writeChunk = 64 << 10
	recordSize = 16 << 10 // most of a TLS record
	keepBuffer = 128 << 10
)

// Conn is a connection to a node that holds the shared key. One goroutine may
// read while another writes; Close may be called by any.
type Conn struct {
	tls     *tls.Conn
	raw     *meter
	key     KeyID
	dialled bool
	remote  netip.AddrPort
	local   netip.AddrPort

	began   time.Time
	limit   time.Duration // until when a piece must be accepted, since began
	read    []byte        // reused between frames
	size    int           // of the last frame
	write   []byte
	records atomic.Uint64

	up      atomic.Bool
	settled sync.Once
	settle  func(up bool) // tells the listener that it no longer waits
}

func newConn(t *tls.Conn, raw *meter, k *key, dialled bool, settle func(bool)) *Conn {
	c := &Conn{tls: t, raw: raw, key: k.id, dialled: dialled, settle: settle, began: time.Now()}
	c.remote, _ = addrPort(raw.RemoteAddr())
	c.local, _ = addrPort(raw.LocalAddr())
	_ = raw.SetReadDeadline(time.Now().Add(helloTimeout))
	return c
}

// Key tells under which key the connection was made.
func (c *Conn) Key() KeyID { return c.key }

// Dialled reports whether this side dialled.
func (c *Conn) Dialled() bool { return c.dialled }

// Remote returns the address of the other end, without a zone; it is invalid
// for connections in memory without addresses.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Local returns the address of this end, as Remote does of the other.
func (c *Conn) Local() netip.AddrPort { return c.local }

// Bytes returns how many bytes were received and sent, encryption included.
func (c *Conn) Bytes() (in, out uint64) { return c.raw.in.Load(), c.raw.out.Load() }

// Records returns about how many TLS records were sent: AES-GCM should not
// protect more than 2^24.5 with a key, and the standard library changes keys on
// demand of the other side only, so the connection has to be replaced before.
func (c *Conn) Records() uint64 { return c.records.Load() }

// Up reports whether a frame of the other side was read, which alone proves
// that it accepted this side.
func (c *Conn) Up() bool { return c.up.Load() }

// ReadFrame reads the next message. The first must come within 5 s; later ones
// have no deadline but that of SetReadDeadline. Any error is final.
func (c *Conn) ReadFrame() (wire.Message, error) {
	m, buf, err := wire.Read(c.tls, c.read)
	c.size = wire.HeaderLen + len(buf)
	clear(buf) // records hold keys, and the next frame may be shorter
	if c.read = buf; cap(buf) > keepBuffer {
		c.read = nil
	}
	if err != nil {
		return nil, err
	}
	if !c.up.Load() {
		c.up.Store(true)
		c.settledAs(true)
		if err := c.raw.SetReadDeadline(time.Time{}); err != nil {
			return nil, fmt.Errorf("clear deadline: %w", err)
		}
	}
	return m, nil
}

// FrameSize returns the size in bytes of the frame that ReadFrame returned
// last. It is for the reading goroutine.
func (c *Conn) FrameSize() int { return c.size }

// WriteFrames writes encoded frames (wire.AppendFrame), small ones joined so
// that they fill TLS records. The caller keeps the frames. Every piece must be accepted within
// WriteTimeout, or a second more. Any error is final: a part may have been sent.
func (c *Conn) WriteFrames(frames ...[]byte) error {
	if c.write == nil {
		c.write = make([]byte, 0, writeChunk)
	}
	buf := c.write[:0]
	most := 0 // of buf that was used: records hold keys
	defer func() { clear(c.write[:most]) }()
	for _, f := range frames {
		for len(f) > 0 {
			if len(buf) == 0 && len(f) >= writeChunk {
				if err := c.writeChunk(f[:writeChunk]); err != nil {
					return err
				}
				f = f[writeChunk:]
				continue
			}
			n := min(writeChunk-len(buf), len(f))
			buf, f = append(buf, f[:n]...), f[n:]
			most = max(most, len(buf))
			if len(buf) == writeChunk {
				if err := c.writeChunk(buf); err != nil {
					return err
				}
				buf = buf[:0]
			}
		}
	}
	if len(buf) == 0 {
		return nil
	}
	return c.writeChunk(buf)
}

func (c *Conn) writeChunk(b []byte) error {
	// A deadline costs more than a short write. One that is less than a second
	// older than it should be serves.
	if now := time.Since(c.began); c.limit < now+WriteTimeout {
		c.limit = now + WriteTimeout + time.Second
		if err := c.raw.SetWriteDeadline(c.began.Add(c.limit)); err != nil {
			return fmt.Errorf("set deadline: %w", err)
		}
	}
	c.records.Add(uint64((len(b) + recordSize - 1) / recordSize))
	// TLS writes each record by itself; all of the piece go in one system call.
	c.raw.cork()
	_, err := c.tls.Write(b)
	if ferr := c.raw.uncork(); err == nil {
		err = ferr
	}
	if err != nil {
		return fmt.Errorf("write %d bytes: %w", len(b), err)
	}
	return nil
}

// WriteMessage encodes and writes one message.
func (c *Conn) WriteMessage(m wire.Message) error {
	b, err := wire.AppendFrame(nil, m)
	if err != nil {
		return err
	}
	return c.WriteFrames(b)
}

// SetReadDeadline makes reads fail at t, which is final.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// Close closes the connection at once, without a word: a Bye written before
// says why, and inside TLS.
func (c *Conn) Close() error {
	err := c.raw.Close()
	c.settledAs(false)
	return err
}

func (c *Conn) settledAs(up bool) {
	c.settled.Do(func() {
		if c.settle != nil {
			c.settle(up)
		}
	})
}

// meter counts the bytes of a connection, and joins what is written between cork
// and uncork.
type meter struct {
	net.Conn
	in, out atomic.Uint64

	mu     sync.Mutex // TLS may answer the other side while frames are written
	corked bool
	buf    []byte
}

func (m *meter) cork() {
	m.mu.Lock()
	m.corked = true
	m.mu.Unlock()
}

// uncork writes what has come since cork.
func (m *meter) uncork() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.corked = false
	if len(m.buf) == 0 {
		return nil
	}
	n, err := m.Conn.Write(m.buf)
	m.out.Add(uint64(n))
	if m.buf = m.buf[:0]; cap(m.buf) > keepBuffer {
		m.buf = nil
	}
	return err
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	m.in.Add(uint64(n))
	return n, err
}

func (m *meter) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.corked {
		m.buf = append(m.buf, b...)
		return len(b), nil
	}
	n, err := m.Conn.Write(b)
	m.out.Add(uint64(n))
	return n, err
}
