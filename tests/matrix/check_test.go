package matrix

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// logged is a line of a daemon's log.
type logged struct {
	at   time.Time
	text string
}

// lines reads what all daemons of a name have logged on a gateway since a time.
func (s *side) lines(daemon string, from time.Time) (list []logged) {
	files, _ := filepath.Glob(filepath.Join(s.Dir(), daemon+".*.log"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			clock, text, _ := strings.Cut(line, " ")
			t, err := time.ParseInLocation("15:04:05.000", clock, from.Location())
			if err != nil {
				continue
			}
			y, m, d := from.Date()
			at := time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), from.Location())
			if at.Before(from.Add(-12 * time.Hour)) {
				at = at.AddDate(0, 0, 1)
			}
			if !at.Before(from.Truncate(time.Millisecond)) {
				list = append(list, logged{at, text})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b logged) int { return a.at.Compare(b.at) })
	return list
}

// wire is what was on the wire so far.
type wire struct{ duplicates, plaintext, refused int }

func (r *row) wire() wire {
	w := wire{refused: refused(r.Pair)}
	for _, sa := range r.capture.SAs() {
		w.duplicates += sa.Duplicates
	}
	w.plaintext, _ = r.capture.Plaintext()
	return w
}

// grace is how long after a takeover a packet of the old master may still be
// seen: those under way while the neighbours learn.
const grace = 150 * time.Millisecond

// lease is how long the addresses of a carpd that is stopped stay.
const lease = 2100 * time.Millisecond

// check reads the kernels, the wire, the logs and the tables after a fault, and
// fails the test for each invariant that does not hold. I2 to I5 are of the
// time after the fault, when all is quiet, the others of all of it.
func (c *cell) check() {
	fail := func(invariant, format string, args ...any) {
		c.t.Helper()
		c.t.Errorf("%s: %s", invariant, fmt.Sprintf(format, args...))
	}
	c.checkWire(fail)
	c.checkSenders(fail)
	c.checkTables(fail)
	c.checkChanges(fail)
	c.checkCounters(fail)
	c.checkStranger(fail)
	c.checkSecrets(fail)
	c.checkElection(fail)
}

type failFunc func(invariant, format string, args ...any)

// checkWire: I1 and I12.
func (c *cell) checkWire(fail failFunc) {
	now := c.wire()
	if n := now.duplicates - c.before.duplicates; n > 0 {
		fail("I1", "%d sequence numbers were sent twice: %v", n, c.capture.Duplicates())
	}
	if n := now.refused - c.before.refused; n > 0 {
		fail("I1", "%d packets were refused for their sequence number: %v", n, stats(c.Pair))
	}
	if n := now.plaintext - c.before.plaintext; n > 0 {
		_, examples := c.capture.Plaintext()
		fail("I12", "%d packets in plaintext: %v", n, examples)
	}
}

// checkSenders: I3. From the moment at which a gateway advertises itself as
// master, no other sends ESP, until that does so itself. The logs would not do:
// who dies as it becomes master does not come to log it.
func (c *cell) checkSenders(fail failFunc) {
	if c.fault.clock {
		return // the times of the log and of the wire are of different clocks
	}
	turns := c.turns(c.first, c.began)
	c.changes = len(turns) - 1
	patience := grace
	if c.fault.stalled {
		patience = lease
	}
	for i, tn := range turns {
		to := time.Now()
		if i+1 < len(turns) {
			to = turns[i+1].at
		}
		from := tn.at.Add(patience)
		if i == 0 {
			from = tn.at
		}
		for _, s := range c.sides {
			if s == tn.s || !from.Before(to) {
				continue
			}
			if n := c.sentBetween(s, from, to); n > 0 {
				fail("I3", "%s sent %d ESP packets between %s and %s, while %s was master", s.Name, n,
					from.Format("05.000"), to.Format("05.000"), tn.s.Name)
			}
		}
	}
}

// checkTables: I4, and I2 for what is no group's.
func (c *cell) checkTables(fail failFunc) {
	var diff []string
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		m, s := c.dump(c.master), c.dump(c.standby)
		// Everything that is not a group's is the node's own.
		diff = cluster.Differences(own(m), own(s))
		if len(diff) == 0 || time.Since(start) > limit/2 {
			break
		}
	}
	if len(diff) > 0 {
		fail("I4", "%d items differ between %s and %s, first: %v", len(diff), c.master.Name, c.standby.Name,
			diff[:min(3, len(diff))])
	}
	for i, s := range c.sides {
		spis := map[uint32]bool{}
		snap := c.dump(s)
		for _, sa := range snap.SAs {
			spis[sa.Key.SPI] = true
		}
		if !spis[sentinel+uint32(i)] || spis[sentinel+uint32(1-i)] {
			fail("I2", "%s: has its own SA %v, has the other's %v", s.Name, spis[sentinel+uint32(i)],
				spis[sentinel+uint32(1-i)])
		}
		for _, tn := range c.tunnels {
			if !spis[tn.SPIOut] || !spis[tn.SPIIn] {
				fail("I5", "%s lacks an SA of the tunnel to %s", s.Name, tn.Remote)
			}
		}
		if c.bulk != nil && len(snap.SAs) < len(c.bulk) {
			fail("I5", "%s has %d SAs, there were %d", s.Name, len(snap.SAs), len(c.bulk))
		}
	}
}

func (c *cell) dump(s *side) *sadb.Snapshot {
	snap, err := s.kernel.Dump(c.t.Context())
	if err != nil {
		c.t.Fatalf("dump %s: %v", s.Name, err)
	}
	return snap
}

// own leaves what is no group's, and a backup's bypasses.
func own(snap *sadb.Snapshot) *sadb.Snapshot {
	return &sadb.Snapshot{
		SAs: slices.DeleteFunc(slices.Clone(snap.SAs), func(sa *sadb.SA) bool { return sa.Key.SPI&^0xf == sentinel }),
		Policies: slices.DeleteFunc(slices.Clone(snap.Policies), func(p *sadb.Policy) bool {
			return xfrm.IsBypass(p) || p.Key.Selector.Dst == sadb.Raw(netip.MustParseAddr("10.9.0.99"))
		}),
	}
}

// checkChanges: I5 and I6. Nothing that carries traffic was ever deleted, by
// nobody but the test.
func (c *cell) checkChanges(fail failFunc) {
	for _, s := range c.sides {
		for _, ch := range s.since(c.began) {
			switch {
			case ch.Kind == sadb.EventDeleteSA && ch.SA.Key.SPI < sentinel && !c.dead[ch.SA.Key.SPI]:
				fail("I6", "%s deleted SA %s at %s", s.Name, ch.SA.Key, ch.at.Format("05.000"))
			case ch.Kind == sadb.EventDeletePolicy && !c.fault.edits && !xfrm.IsBypass(ch.Policy):
				fail("I6", "%s deleted %s at %s", s.Name, ch.Policy.Key, ch.at.Format("05.000"))
			case (ch.Kind == sadb.EventFlushSA || ch.Kind == sadb.EventFlushPolicy) && !c.fault.edits:
				fail("I5", "%s was flushed at %s", s.Name, ch.at.Format("05.000"))
			}
		}
	}
}

// checkCounters: I1 and I7. No kernel is behind what was on the wire, and the
// standby is ahead.
func (c *cell) checkCounters(fail failFunc) {
	sent := map[uint32]uint64{}
	for _, sa := range c.capture.SAs() {
		if sa.Src == lab.VIPOut || sa.Src == lab.VIPOut6 {
			sent[sa.SPI] = sa.Highest
		}
	}
	for _, s := range []*side{c.master, c.standby} {
		for _, sa := range c.dump(s).SAs {
			n, ok := sent[sa.Key.SPI]
			if !ok || sa.Key.SPI >= sentinel || sa.Src != lab.VIPOut && sa.Src != lab.VIPOut6 {
				continue
			}
			if sa.OSeq < n || s == c.standby && sa.OSeq < n+1000 {
				fail("I1", "%s would go on with number %d of SA %s, of which %d was sent", s.Name, sa.OSeq+1, sa.Key, n)
			}
		}
	}
	var terms [2]uint64
	for i, s := range c.sides {
		st, err := s.Status()
		if err != nil || len(st.Groups) != 1 {
			c.t.Fatalf("status of %s: %v", s.Name, err)
		}
		terms[i] = st.Groups[0].Term
	}
	if terms[0] != terms[1] || terms[0] < c.terms {
		fail("I7", "terms are %v, were at least %d before", terms, c.terms)
	}
	c.terms = terms[0]
}

// checkStranger: I8. Who does not have the key gets a challenge and no more.
func (c *cell) checkStranger(fail failFunc) {
	for i, s := range c.sides {
		var conn net.Conn
		err := c.sides[1-i].Do(func() (err error) {
			d := net.Dialer{Timeout: limit, FallbackDelay: -1}
			conn, err = d.Dial("tcp", netip.AddrPortFrom(s.SyncAddr, 500).String())
			return err
		})
		if err != nil {
			fail("I8", "%s does not listen: %v", s.Name, err)
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(limit))
		_, _ = conn.Write(make([]byte, 64))
		b, _ := io.ReadAll(conn) // a reset is an answer, too
		conn.Close()
		if len(b) > 32 {
			fail("I8", "%s told a stranger %d bytes", s.Name, len(b))
		}
	}
}

// checkSecrets: I9.
func (c *cell) checkSecrets(fail failFunc) {
	for _, s := range c.sides {
		s.LearnKeys()
		for _, verb := range []string{"status", "check", "peers", "diff"} {
			var answer json.RawMessage
			if err := scenario.Ask(s.Socket(), verb, &answer); err != nil {
				c.t.Fatalf("%s of %s: %v", verb, s.Name, err)
			}
			if what := c.Net.Leak(string(answer)); what != "" {
				fail("I9", "the answer of %s to %s has %s", s.Name, verb, what)
			}
		}
		for _, d := range []string{"carpd", "sasyncd"} {
			for _, l := range s.lines(d, c.began) {
				if what := c.Net.Leak(l.text); what != "" {
					fail("I9", "%s of %s logged %s", d, s.Name, what)
				}
			}
		}
	}
}

// checkElection: I10 and I11. SAs are looked at after the addresses are there,
// and nobody takes them without sasyncd.
func (c *cell) checkElection(fail failFunc) {
	if c.fault.clock {
		return
	}
	for _, s := range c.sides {
		takeovers := s.takeovers(c.began)
		for _, at := range takeovers {
			for _, w := range s.without {
				// carpd notices a moment later.
				if at.After(w.from.Add(50*time.Millisecond)) && (w.to.IsZero() || at.Before(w.to)) {
					fail("I11", "%s became master at %s, and had no sasyncd since %s", s.Name, at.Format("05.000"),
						w.from.Format("05.000"))
				}
			}
		}
		for _, l := range s.lines("sasyncd", c.began) {
			if !strings.Contains(l.text, "publishing group=") {
				continue
			}
			// The first that is published follows a mastership, whenever that was.
			if len(takeovers) > 0 && l.at.Before(takeovers[0].Add(-time.Millisecond)) && s != c.first {
				fail("I10", "%s went through its SAs at %s, and was master at %s", s.Name, l.at.Format("05.000"),
					takeovers[0].Format("05.000"))
			}
		}
	}
}
