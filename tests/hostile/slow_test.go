package hostile

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"sasyncd/sync/wire"
)

// slow sends a few bytes at a time, behind the first so many.
type slow struct {
	net.Conn
	after int
	each  time.Duration
}

func (s *slow) Write(b []byte) (int, error) {
	for i := range b {
		if s.after > 0 {
			s.after--
		} else {
			time.Sleep(s.each)
		}
		if _, err := s.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func (a *arena) slowHandshakes() {
	var tasks sync.WaitGroup
	for i := range 6 {
		for _, m := range a.Members {
			tasks.Go(func() {
				after := 0
				if i%2 == 0 {
					after = 32 // the answer at once, then TLS
				}
				c, err := a.connect(m, func(c net.Conn) net.Conn { return &slow{c, after, 100 * time.Millisecond} })
				if err == nil {
					c.Close()
					a.t.Errorf("a handshake of minutes was accepted by %s", m.Name)
				}
			})
		}
	}
	tasks.Wait()
}

func (a *arena) slowRecords() {
	var below *slow
	for _, m := range a.Members {
		c, err := a.connect(m, func(c net.Conn) net.Conn {
			below = &slow{c, 1 << 30, 0}
			return below
		})
		for range 20 {
			if err == nil {
				break
			}
			time.Sleep(200 * time.Millisecond)
			c, err = a.connect(m, func(c net.Conn) net.Conn {
				below = &slow{c, 1 << 30, 0}
				return below
			})
		}
		if err != nil {
			a.t.Errorf("connect to %s: %v", m.Name, err)
			continue
		}
		if err := c.WriteMessage(a.hello()); err != nil {
			a.t.Error(err)
		}
		if _, err := c.ReadFrame(); err != nil {
			a.t.Error(err)
		}
		below.after, below.each = 0, 50*time.Millisecond
		began := time.Now()
		head := binary.BigEndian.AppendUint32(nil, wire.MaxFrame-wire.HeaderLen)
		err = c.WriteFrames(append(append(head, byte(wire.TypeBatch)), make([]byte, 8<<10)...))
		if err == nil || time.Since(began) > 30*time.Second {
			a.t.Errorf("%s took %v of a record that does not end: %v", m.Name, time.Since(began), err)
		}
		c.Close()
	}
}

// slowScrapers send half a request, or do not read the answer.
func (a *arena) slowScrapers() {
	var open []net.Conn
	for _, m := range a.Members {
		if err := m.Do(func() error {
			for i := range 600 {
				for _, at := range []string{"127.0.0.1:9750", "127.0.0.1:9751"} {
					c, err := net.DialTimeout("tcp", at, 5*time.Second)
					if err != nil {
						return fmt.Errorf("connection %d: %w", i, err)
					}
					open = append(open, c)
					text := "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
					if i%50 == 0 {
						text = strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 20)
					}
					_, _ = io.WriteString(c, text)
				}
			}
			return nil
		}); err != nil {
			a.t.Errorf("%s: %v", m.Name, err)
		}
	}
	a.look() // a scrape goes on
	for _, c := range open {
		c.Close()
	}
}
