package track

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/bfd"
	"sasyncd/carp/link"
)

const (
	// bfdPort is the UDP port of control packets over a single hop (RFC 5881 section 4).
	bfdPort = 3784
	// bfdHops is the hop limit of what is sent, and of what is received (section 5):
	// nobody beyond a router can send a packet that has it on arrival.
	bfdHops = 255

	bfdRetry = time.Second     // until a socket that could not be opened is tried again
	bfdGrace = 3 * time.Second // for a session to come Up before it demotes, at the start
	bfdAgain = time.Minute     // until the log says again why packets are ignored
	bfdBurst = 1024            // packets that are read before timers are looked at
)

var errHops = errors.New("packet has passed a router: its TTL or hop limit is not 255")

// speaker runs all BFD sessions. It is of one goroutine.
type speaker struct {
	t         *Tracker
	neighbors []*neighbor
	poll      *link.Poller
	in        [2]receiver // IPv4, IPv6
	to        uint16      // port of the neighbors
	grace     time.Duration
	now       func() time.Duration
	b         [bfd.Length]byte
}

// neighbor is one session and whom it demotes.
type neighbor struct {
	addr    netip.Addr // without a zone
	device  string     // "" any
	tracks  []*Config
	session *bfd.Session
	out     sender

	judged bool          // it has been Up, or had the time to come Up
	grace  time.Duration // when it has had it
	told   bfd.Status
	reason string // why it demotes, "" it does not
	// ignored is when the log said why packets are ignored, by the reason. There
	// are as many as package bfd has, and two more.
	ignored map[error]time.Duration
}

// newSpeaker makes a speaker with the BFD sessions among the tracks.
func newSpeaker(t *Tracker) *speaker {
	s := &speaker{t: t, to: bfdPort, grace: bfdGrace, now: bootTime}
	for i, all := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		s.in[i] = receiver{fd: -1, at: netip.AddrPortFrom(all, bfdPort), retry: carp.Never}
	}
	for i := range t.tracks {
		c := &t.tracks[i]
		if c.Kind != BFD {
			continue
		}
		at := slices.IndexFunc(s.neighbors, func(n *neighbor) bool {
			return n.addr == c.Addr && n.device == c.Device
		})
		if at < 0 {
			at = len(s.neighbors)
			s.neighbors = append(s.neighbors, &neighbor{addr: c.Addr, device: c.Device,
				out:     sender{fd: -1, neighbor: c.Addr, device: c.Device, source: c.Source},
				ignored: make(map[error]time.Duration)})
		}
		s.neighbors[at].tracks = append(s.neighbors[at].tracks, c)
	}
	return s
}

// receiver returns the one that hears a neighbor.
func (s *speaker) receiver(n *neighbor) *receiver {
	if n.addr.Is4() {
		return &s.in[0]
	}
	return &s.in[1]
}

// run runs the sessions until ctx ends. Then it tells the neighbors that this is no
// fault, and does not wait for them.
func (s *speaker) run(ctx context.Context) (err error) {
	if s.poll, err = link.NewPoller(); err != nil {
		return fmt.Errorf("run BFD sessions: %w", err)
	}
	woken := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(woken)
		s.poll.Wake()
	})
	defer func() {
		if !unwatch() {
			<-woken // it writes to a descriptor of poll
		}
		s.close()
	}()
	s.begin()
	for {
		at := min(s.in[0].retry, s.in[1].retry)
		for _, n := range s.neighbors {
			at = min(at, n.deadline())
		}
		if err := s.poll.Wait(at); err != nil {
			return fmt.Errorf("run BFD sessions: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		// What has arrived comes first: after a stall the packets of the neighbors
		// are waiting here, and a deadline judged before them would be missed.
		s.receive()
		now := s.now()
		for _, n := range s.neighbors {
			if p, send := n.session.Tick(now); send {
				s.send(n, &p)
			}
			s.report(n, now)
		}
	}
}

// begin starts all sessions.
func (s *speaker) begin() {
	now := s.now()
	discriminators := map[uint32]bool{0: true}
	for i, n := range s.neighbors {
		discr := uint32(0)
		for discriminators[discr] {
			discr = rand.Uint32() //nolint:gosec // it has to be unique, and no secret
		}
		discriminators[discr] = true
		c := n.tracks[0]
		n.session = bfd.New(now, bfd.Config{Discr: discr, Interval: c.Interval, Multiplier: uint8(c.Multiplier),
			Random: rand.Float64}) //nolint:gosec // jitter
		n.out.number, n.out.of = i, len(s.neighbors)
		n.grace = now + s.grace
		s.receiver(n).retry = now
	}
}

// close ends all sessions and closes everything.
func (s *speaker) close() {
	for _, n := range s.neighbors {
		if n.out.fd >= 0 {
			p := n.session.Stop()
			s.send(n, &p)
		}
		n.out.close()
	}
	for i := range s.in {
		s.in[i].close()
	}
	s.poll.Close()
}

// deadline is when something is due for a session.
func (n *neighbor) deadline() time.Duration {
	at := n.session.Deadline()
	if !n.judged {
		at = min(at, n.grace)
	}
	return at
}

// receive reads what has arrived, and opens what is not open.
func (s *speaker) receive() {
	for i := range s.in {
		in := &s.in[i]
		if s.now() >= in.retry {
			in.open(s.now(), s.poll)
		}
		for left := bfdBurst; left > 0 && in.fd >= 0; left-- {
			d, err := in.read()
			switch err {
			case nil:
				s.arrived(&d)
			case unix.EINTR:
			case unix.EAGAIN:
				left = 0
			default:
				in.fail(s.now(), err)
			}
		}
	}
}

// arrived takes a datagram.
func (s *speaker) arrived(d *datagram) {
	at := slices.IndexFunc(s.neighbors, func(n *neighbor) bool {
		return n.addr == d.from && (n.device == "" || n.out.index == d.index)
	})
	if at < 0 {
		return // from nobody that we know
	}
	n, now := s.neighbors[at], s.now()
	if err := s.take(n, now, d); err != nil {
		if last, ok := n.ignored[err]; !ok || now-last >= bfdAgain {
			n.ignored[err] = now
			s.t.log.Warn("BFD packet ignored", "id", n.tracks[0].ID(), "err", err)
		}
		return
	}
	s.report(n, now)
}

// take gives a datagram of a neighbor to its session.
func (s *speaker) take(n *neighbor, now time.Duration, d *datagram) error {
	if d.hops != bfdHops {
		return errHops
	}
	p, err := bfd.Decode(d.data)
	if err != nil {
		return err
	}
	reply, send, err := n.session.Receive(now, &p)
	if send {
		s.send(n, &reply)
	}
	return err
}

func (s *speaker) send(n *neighbor, p *bfd.Packet) { n.out.send(p.Append(s.b[:0]), s.to) }

// report tells what has changed of a session.
func (s *speaker) report(n *neighbor, now time.Duration) {
	st := n.session.Status()
	n.judged = n.judged || st.State == bfd.Up || now >= n.grace
	if st != n.told {
		if n.told.State > bfd.Down && st.State == bfd.Down && st.Diag == bfd.DetectionExpired {
			// With the next packet the kernel chooses the way and the source anew.
			n.out.close()
		}
		n.told = st
		told := map[string]bool{}
		for _, c := range n.tracks {
			if !told[c.Group] {
				told[c.Group] = true
				s.t.to.BFD(c.Group, n.addr, n.device, st)
			}
		}
	}
	reason := ""
	if n.judged && st.State != bfd.Up {
		reason = s.why(n, &st)
	}
	switch was := n.reason; {
	case reason == was:
		return
	case reason == "" || was == "":
		for _, c := range n.tracks {
			by := c.Demote
			if reason == "" {
				by = 0
			}
			s.t.tell(c, by, reason)
		}
	default: // known already: the log has it
		for _, c := range n.tracks {
			s.t.to.Track(c.Group, c.ID(), c.Demote, reason)
		}
	}
	n.reason = reason
}

// why says why a session is not Up.
func (s *speaker) why(n *neighbor, st *bfd.Status) string {
	switch in := s.receiver(n); {
	case in.err != nil:
		return in.err.Error()
	case n.out.err != nil:
		return n.out.err.Error()
	case !st.Heard && st.Diag == bfd.DetectionExpired:
		return "neighbor is not heard any more"
	case !st.Heard:
		return "neighbor is not heard"
	case st.NeighborState == bfd.AdminDown:
		return "neighbor has the session administratively down"
	case st.NeighborDiag != bfd.NoDiagnostic:
		return fmt.Sprintf("session is %v, neighbor says %v (%v)", st.State, st.NeighborState, st.NeighborDiag)
	}
	return fmt.Sprintf("session is %v, neighbor says %v", st.State, st.NeighborState)
}
