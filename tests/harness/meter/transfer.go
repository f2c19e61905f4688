package meter

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// Transfer is one TCP connection over which data flows until it is finished,
// and whose receiver must then hold exactly what was sent.
type Transfer struct {
	t      lab.T
	name   string
	stop   chan struct{}
	once   sync.Once
	result chan error
	got    chan received
	bytes  atomic.Int64
	conn   net.Conn
	ln     net.Listener
}

type received struct {
	sum   [sha256.Size]byte
	stall time.Duration
	err   error
}

const (
	chunk      = 4 << 10
	chunkEvery = 20 * time.Millisecond // 200 kB/s
)

// StartTransfer connects from one node to another and starts sending. The
// connection is cut when the test ends without [Transfer.Finish].
func StartTransfer(t lab.T, from, to *lab.Node, src, dst netip.Addr, port uint16) *Transfer {
	t.Helper()
	x := &Transfer{
		t: t, name: fmt.Sprintf("TCP %s>%s", from.Name, to.Name),
		stop: make(chan struct{}), result: make(chan error, 1), got: make(chan received, 1),
	}
	err := to.Do(func() (err error) {
		x.ln, err = net.Listen("tcp", netip.AddrPortFrom(dst, port).String())
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", x.name, err)
	}
	go x.receive()
	err = from.Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: src.AsSlice()}, Timeout: 10 * time.Second, FallbackDelay: -1}
		// A literal address: Dial makes the socket on this thread.
		x.conn, err = d.Dial("tcp", netip.AddrPortFrom(dst, port).String())
		return err
	})
	if err != nil {
		x.ln.Close()
		t.Fatalf("%s: %v", x.name, err)
	}
	go x.sendAll()
	t.Cleanup(func() {
		x.conn.Close()
		x.ln.Close()
	})
	return x
}

func (x *Transfer) receive() {
	c, err := x.ln.Accept()
	if err != nil {
		x.got <- received{err: err}
		return
	}
	defer c.Close()
	h := sha256.New()
	buf := make([]byte, 64<<10)
	var r received
	last := time.Now()
	for {
		n, err := c.Read(buf)
		now := time.Now()
		r.stall = max(r.stall, now.Sub(last))
		last = now
		h.Write(buf[:n])
		x.bytes.Add(int64(n))
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			break
		}
	}
	r.sum = [sha256.Size]byte(h.Sum(nil))
	x.got <- r
}

func (x *Transfer) sendAll() {
	x.result <- func() error {
		h := sha256.New()
		b := make([]byte, chunk)
		rng := rand.NewChaCha8([32]byte{}) // contents only have to differ
		tick := time.NewTicker(harness.Scaled(chunkEvery))
		defer tick.Stop()
		for {
			select {
			case <-x.stop:
				if err := x.conn.(*net.TCPConn).CloseWrite(); err != nil {
					return err
				}
				r := <-x.got
				if r.err != nil {
					return fmt.Errorf("receive: %w", r.err)
				}
				if r.sum != [sha256.Size]byte(h.Sum(nil)) {
					return errors.New("what arrived is not what was sent")
				}
				return nil
			case <-tick.C:
				rng.Read(b)
				h.Write(b)
				if _, err := x.conn.Write(b); err != nil {
					return fmt.Errorf("send: %w", err)
				}
			}
		}
	}()
}

// Bytes is the number of bytes received so far.
func (x *Transfer) Bytes() int64 { return x.bytes.Load() }

// Finish ends the transfer and returns nil when the connection survived and the
// receiver has all of it, unchanged.
func (x *Transfer) Finish(limit time.Duration) error {
	x.once.Do(func() { close(x.stop) })
	select {
	case err := <-x.result:
		if err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
		return nil
	case <-time.After(harness.Scaled(limit)):
		return fmt.Errorf("%s: not finished %v after the last byte was written", x.name, limit)
	}
}
