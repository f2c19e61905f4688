package capture

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// Marker is at the start of the payload of every metered packet. A packet that
// shows it is not encrypted, whatever it is wrapped in.
const Marker = "sasyncd-meter-plaintext!"

// Config says what to capture and what must not be seen in the clear.
type Config struct {
	Ports []*lab.Port // at most 256
	// Bytes of each frame are captured: 224 if it is 0, enough for headers and
	// for the marker of a metered packet.
	Bytes uint32
	// Inner are protected networks: an IP packet from or to one of them is plaintext.
	Inner []netip.Prefix
	// Protocols are IP protocols that must not be seen, whoever sends them:
	// tunnels that are to be inside of ESP.
	Protocols []uint8
	// Watch, if not nil, gets every packet, from one goroutine at a time. It
	// must not keep the frame.
	Watch func(*Packet)
}

// Capture is a running or ended capture. Its methods may be called from any
// goroutine; while it runs they lag behind the wire by some 20 ms.
type Capture struct {
	t      lab.T
	cfg    Config
	ports  []*lab.Port
	rings  []*ring
	stop   chan struct{}
	done   chan struct{}
	ended  sync.Once
	frames *frameLog // for the pcap file

	mu         sync.Mutex
	sas        map[said]*SA
	events     []event
	duplicates []Duplicate
	plain      []string // descriptions of the first few
	plainCount int
	err        error
}

const keepExamples = 20

// Start starts a capture. It stops when the test ends, which fails if the
// capture has gaps; its last packets are written to a file if the test failed.
func Start(t lab.T, cfg Config) *Capture {
	t.Helper()
	c := &Capture{
		t: t, cfg: cfg, ports: cfg.Ports, sas: map[said]*SA{},
		stop: make(chan struct{}), done: make(chan struct{}),
		frames: newFrameLog(),
	}
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
			if err := c.frames.write(filepath.Join(harness.ArtifactDir(), name)); err != nil {
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
		c.mu.Lock()
		for i, r := range c.rings {
			r.take(func(at time.Time, frame []byte, length int) { c.judge(i, at, frame, length) })
		}
		c.mu.Unlock()
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
	c.frames.add(&p)
	if p.IsESP {
		c.judgeESP(&p, uint8(port))
	}
	if c.isPlain(&p) {
		c.plainCount++
		c.events = append(c.events, event{at: at.UnixNano(), port: uint8(port), kind: kindPlaintext})
		if len(c.plain) < keepExamples {
			c.plain = append(c.plain, fmt.Sprintf("%s from %s: %s > %s protocol %d, %d bytes",
				at.Format("15:04:05.000000"), p.Port.Node.Name, p.Src, p.Dst, p.Proto, length))
		}
	}
	if c.cfg.Watch != nil {
		c.cfg.Watch(&p)
	}
}

func (c *Capture) judgeESP(p *Packet, port uint8) {
	id := said{p.Src, p.Dst, p.SPI}
	sa := c.sas[id]
	if sa == nil {
		sa = &SA{Src: p.Src, Dst: p.Dst, SPI: p.SPI, seen: map[uint64]sender{}}
		c.sas[id] = sa
	}
	seq, first, k := sa.add(p, port)
	if k == kindDuplicate {
		if len(c.duplicates) < keepExamples {
			c.duplicates = append(c.duplicates, Duplicate{
				Src: p.Src, Dst: p.Dst, SPI: p.SPI, Seq: seq,
				First: time.Unix(0, first.at), FirstFrom: c.ports[first.port].Node.Name,
				Then: p.At, ThenFrom: p.Port.Node.Name,
			})
		}
	}
	c.events = append(c.events, event{at: p.At.UnixNano(), port: port, kind: k})
}

func (c *Capture) isPlain(p *Packet) bool {
	for _, n := range c.cfg.Inner {
		if n.Contains(p.Src) || n.Contains(p.Dst) {
			return true
		}
	}
	return slices.Contains(c.cfg.Protocols, p.Proto) && p.Src.IsValid() || bytes.Contains(p.Frame, []byte(Marker))
}

// SAs returns what was seen of each SA, ordered by SPI.
func (c *Capture) SAs() []SA {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []SA
	for _, sa := range c.sas {
		s := *sa
		s.seen = nil
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b SA) int {
		return cmp.Or(cmp.Compare(a.SPI, b.SPI), a.Src.Compare(b.Src), a.Dst.Compare(b.Dst))
	})
	return list
}

// Duplicates returns the first few sequence numbers that were sent twice;
// [Capture.Between] counts them all.
func (c *Capture) Duplicates() []Duplicate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.duplicates)
}

// Plaintext returns the number of packets in the clear and describes the first few.
func (c *Capture) Plaintext() (int, []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.plainCount, slices.Clone(c.plain)
}

// RequireClean stops the capture and fails the test for every sequence number
// sent twice and every packet in plaintext, and if no ESP was seen at all.
func (c *Capture) RequireClean() {
	c.t.Helper()
	c.Stop()
	total := 0
	for _, sa := range c.SAs() {
		total += sa.Packets
		if sa.Duplicates > 0 {
			c.t.Errorf("%s > %s spi %#x: %d sequence numbers were sent twice", sa.Src, sa.Dst, sa.SPI, sa.Duplicates)
		}
	}
	for _, d := range c.Duplicates() {
		c.t.Errorf("%v", d)
	}
	if n, examples := c.Plaintext(); n > 0 {
		c.t.Errorf("%d packets in plaintext, first:\n%s", n, strings.Join(examples, "\n"))
	}
	if total == 0 {
		c.t.Errorf("the capture saw no ESP packet")
	}
}
