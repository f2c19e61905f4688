package capture

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// Config says what to capture and what must not be seen in the clear.
type Config struct {
	Ports []*lab.Port // at most 256
	// Bytes of each frame are captured: 224 if it is 0, enough for headers and
	// for the marker of a metered packet.
	Bytes uint32
	// Inner are protected networks: an IP packet from or to one of them is plaintext.
	Inner []netip.Prefix
	// Watch, if not nil, gets every packet, from one goroutine at a time. It
	// must not keep the frame.
	Watch func(*Packet)
}

// Capture is a running or ended capture. Its methods may be called from any
// goroutine; while it runs they lag behind the wire by some 20 ms.
type Capture struct {
	ledger *Ledger

	t     lab.T
	cfg   Config
	ports []*lab.Port
	rings []*ring
	stop  chan struct{}
	done  chan struct{}
	ended sync.Once
	err   error
}

// Start starts a capture. It stops when the test ends, which fails if the
// capture has gaps; its last packets are written to a file if the test failed.
func Start(t lab.T, cfg Config) *Capture {
	t.Helper()
	c := &Capture{t: t, cfg: cfg, ports: cfg.Ports, stop: make(chan struct{}), done: make(chan struct{})}
	var names []string
	for _, p := range c.ports {
		names = append(names, p.Node.Name)
	}
	c.ledger = NewLedger(names, cfg.Inner)
	for _, p := range c.ports {
		r, err := openRing(p, cmp.Or(cfg.Bytes, snapLength))
		if err != nil {
			t.Fatalf("%v", err)
		}
		c.rings = append(c.rings, r)
	}
	go c.read()
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() && harness.ArtifactDir() != "" {
			name := strings.ReplaceAll(t.Name(), "/", "-") + ".pcap"
			if err := c.ledger.WriteFile(filepath.Join(harness.ArtifactDir(), name)); err != nil {
				t.Logf("keep capture: %v", err)
			}
		}
	})
	return c
}

// Stop ends the capture when all that was on the wire before the call has been
// judged. Losses of the capture itself fail the test.
func (c *Capture) Stop() {
	c.ended.Do(func() {
		close(c.stop)
		<-c.done
		for i, r := range c.rings {
			n, err := r.drops()
			if n != 0 {
				err = errors.Join(err, fmt.Errorf("%d frames were not captured", n))
			}
			if err != nil {
				c.t.Errorf("capture on %s: %v", c.ports[i].Outer, err)
			}
			r.close()
		}
		if c.err != nil {
			c.t.Errorf("capture: %v", c.err)
		}
	})
}

// read is the goroutine that owns the rings.
func (c *Capture) read() {
	defer close(c.done)
	fds := make([]unix.PollFd, len(c.rings))
	for i, r := range c.rings {
		fds[i] = unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN}
	}
	var end time.Time
	for {
		if _, err := unix.Poll(fds, retireMillis); err != nil && !errors.Is(err, unix.EINTR) {
			c.err = fmt.Errorf("wait for packets: %w", err)
			return
		}
		for i, r := range c.rings {
			r.take(func(at time.Time, frame []byte, length int) { c.judge(i, at, frame, length) })
		}
		select {
		case <-c.stop:
			// Twice the time after which the kernel hands over a block that is not full.
			if end.IsZero() {
				end = time.Now().Add(2 * retireMillis * time.Millisecond)
			} else if time.Now().After(end) {
				return
			}
		default:
		}
	}
}

func (c *Capture) judge(port int, at time.Time, frame []byte, length int) {
	p := Packet{At: at, Port: c.ports[port], Length: length, Frame: frame}
	parse(frame, &p)
	c.ledger.book(&p, port)
	if c.cfg.Watch != nil {
		c.cfg.Watch(&p)
	}
}

// SAs is [Ledger.SAs].
func (c *Capture) SAs() []SA { return c.ledger.SAs() }

// Duplicates is [Ledger.Duplicates].
func (c *Capture) Duplicates() []Duplicate { return c.ledger.Duplicates() }

// Plaintext is [Ledger.Plaintext].
func (c *Capture) Plaintext() (int, []string) { return c.ledger.Plaintext() }

// Between is [Ledger.Between].
func (c *Capture) Between(from, to time.Time, ports ...*lab.Port) Counts {
	var list []int
	for i, p := range c.ports {
		for _, q := range ports {
			if p == q {
				list = append(list, i)
			}
		}
	}
	if len(ports) > 0 && len(list) == 0 {
		return Counts{}
	}
	return c.ledger.Between(from, to, list...)
}

// RequireClean stops the capture and fails the test for whatever
// [Ledger.Faults] finds.
func (c *Capture) RequireClean() {
	c.t.Helper()
	c.Stop()
	for _, f := range c.ledger.Faults() {
		c.t.Errorf("%s", f)
	}
}
