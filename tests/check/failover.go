package check

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// Budget is how long a failover may take until everything works again. It is more
// than three advertisements of 250 ms, and less than the time after which a gateway
// takes over that is not in sync (10 s) or that another member is waited for.
const Budget = 4 * time.Second

const (
	// staysLeast is how long all must go on to work: longer than the addresses of a
	// dead carpd stay. Of the packets of that time, staysFor must pass.
	staysLeast = 3 * time.Second
	staysFor   = 2 * rate

	lookEvery = 20 * time.Millisecond
)

// Outcome is what came of one failover.
type Outcome struct {
	Worked bool
	Words  string // why not, or what was special
}

func (o Outcome) String() string {
	switch {
	case o.Worked && o.Words != "":
		return "worked " + o.Words
	case o.Worked:
		return "worked"
	}
	return o.Words
}

func failed(format string, args ...any) Outcome { return Outcome{Words: fmt.Sprintf(format, args...)} }

// alone returns the only MASTER, or why there is none.
func (s *Site) alone() (*Member, *Outcome) {
	list := s.masters()
	switch len(list) {
	case 1:
		return list[0], nil
	case 0:
		o := failed("there was no MASTER before")
		return nil, &o
	}
	o := failed("there were %d MASTERs before", len(list))
	return nil, &o
}

// planned hands over as an operator does. A refusal after an answer of no is
// overridden: whether check was right is for the outcome to say.
func (s *Site) planned() Outcome {
	old, bad := s.alone()
	if bad != nil {
		return *bad
	}
	words := ""
	switch s.it.election() {
	case Keepalived, Address:
		old.Other.MayExit()
		old.Other.Term(startLimit)
	case Link:
		s.move(old)
	default:
		said, code := "", 1
		if on(old.Sasyncd) && !old.hangs {
			said, code = old.ctl("sasyncctl", "-s", old.socket(), "failover")
		}
		if code == 0 || old.role() != "MASTER" {
			break
		}
		if s.it.Want == Yes {
			return failed("sasyncctl failover did not: %s", strings.TrimSpace(said))
		}
		words = "(by carpctl resign)"
		if out, code := old.ctl("carpctl", "-s", old.carpdSocket(), "resign", scenario.Group); code != 0 {
			return failed("carpctl resign did not: %s", strings.TrimSpace(out))
		}
	}
	o := s.outcome(old)
	if o.Worked {
		o.Words = words
	}
	return o
}

// cut takes the MASTER's power away: its daemons die, its links are down.
func (s *Site) cut() Outcome {
	old, bad := s.alone()
	if bad != nil {
		return *bad
	}
	old.PowerCut()
	if s.it.election() == Link {
		s.move(old)
	}
	return s.outcome(old)
}

// outcome waits until everything works without the old MASTER, and whether it stays
// so. It begins when the order was answered, or the power is off: on a machine that has
// much to do, a process takes its time to start and to end.
func (s *Site) outcome(old *Member) Outcome {
	budget := harness.Scaled(Budget)
	w := lab.NewWatch()
	var next *Member
	left := map[*Member]*missing{}
	for {
		m, why := s.successor(old)
		if m != nil {
			if next = m; left[m] == nil {
				left[m] = s.all(3)
			}
			if why = left[m].look(s); why == "" {
				break
			}
		}
		if w.Elapsed() > budget {
			return failed("after %v: %s", Budget, why)
		}
		w.Sleep(lookEvery)
	}
	if why := s.stays(next); why != "" {
		return failed("%s", why)
	}
	if s.wire != nil {
		if why := s.wire.dirty(); why != "" {
			return failed("%s", why)
		}
	}
	return Outcome{Worked: true}
}

// successor is who is the only MASTER, if that is not the old one.
func (s *Site) successor(old *Member) (*Member, string) {
	list := s.view.now()
	switch {
	case len(list) == 0:
		return nil, "nobody is MASTER"
	case len(list) > 1:
		return nil, "more than one is MASTER"
	case list[0] == old:
		return nil, "the old MASTER is MASTER still"
	}
	return list[0], ""
}

// virtual is a virtual IP, who looks at it from its network and by which device, and
// a gateway's cable there.
type virtual struct {
	addr   netip.Addr
	client func(*Site) *lab.Node
	dev    string
	port   func(*Member) *lab.Port
}

var virtuals = []virtual{
	{lab.VIPOut, func(s *Site) *lab.Node { return s.RGW }, "wan0", func(m *Member) *lab.Port { return m.WAN }},
	{lab.VIPOut6, func(s *Site) *lab.Node { return s.RGW }, "wan0", func(m *Member) *lab.Port { return m.WAN }},
	{lab.VIPIn, func(s *Site) *lab.Node { return s.H1 }, "eth0", func(m *Member) *lab.Port { return m.LAN }},
	{lab.VIPIn6, func(s *Site) *lab.Node { return s.H1 }, "eth0", func(m *Member) *lab.Port { return m.LAN }},
}

// derived returns the IPv6 link-local virtual IPs of the MASTER, by which hosts know
// their router. carpd derives them from the id of an instance that has none configured.
func (s *Site) derived(m *Member) (list []virtual) {
	for _, v := range []virtual{virtuals[0], virtuals[2]} { // one of each network
		for _, a := range m.Addresses(v.port(m).Inner) {
			if a.IsSingleIP() && a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() {
				list = append(list, virtual{a.Addr(), v.client, v.dev, v.port})
			}
		}
	}
	return list
}

// missing is what has not been seen to work yet: the number of answers that an
// address, and of packets that a flow, must have.
type missing struct {
	addrs map[netip.Addr]int
	flows map[*meter.Flow]int
}

// all is everything that must work: each address answers, and packets of each flow
// pass, n of them.
func (s *Site) all(n int) *missing {
	m := &missing{addrs: map[netip.Addr]int{}, flows: map[*meter.Flow]int{}}
	for _, v := range virtuals {
		m.addrs[v.addr] = s.view.answers(v.addr) + 1
	}
	if s.it.NoTunnel {
		return m
	}
	for _, f := range s.traffic.Flows {
		m.flows[f] = f.Received() + n
	}
	return m
}

// look strikes out what works now, and says what is left.
func (m *missing) look(s *Site) string {
	maps.DeleteFunc(m.addrs, func(a netip.Addr, want int) bool { return s.view.answers(a) >= want })
	maps.DeleteFunc(m.flows, func(f *meter.Flow, want int) bool { return f.Received() >= want })
	var list []string
	for a := range m.addrs {
		list = append(list, a.String()+" does not answer")
	}
	for f := range m.flows {
		list = append(list, f.Name+" does not pass")
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// stays looks for a while whether everything goes on to work: traffic, one MASTER,
// and who answers for its addresses.
func (s *Site) stays(next *Member) string {
	w := lab.NewWatch()
	for left := s.all(staysFor); ; w.Sleep(lookEvery) {
		why := left.look(s)
		if why == "" && w.Elapsed() > harness.Scaled(staysLeast) {
			break
		}
		if w.Elapsed() > harness.Scaled(2*staysLeast) {
			return "not for long: " + why
		}
	}
	if list := s.view.now(); len(list) != 1 || list[0] != next {
		var names []string
		for _, m := range list {
			names = append(names, m.Name)
		}
		return fmt.Sprintf("%s did not stay the only MASTER: %v", next.Name, names)
	}
	for _, v := range slices.Concat(virtuals, s.local) {
		macs, err := claimants(v.client(s), v.dev, v.addr)
		if err != nil {
			s.t.Fatalf("ask who has %v: %v", v.addr, err)
		}
		own := v.port(next).MAC.String()
		switch others := slices.DeleteFunc(slices.Clone(macs), func(a string) bool { return a == own }); {
		case len(others) > 0 && !(s.it.VirtualMAC && len(others) == 1 && len(macs) == 1):
			return fmt.Sprintf("%v is claimed by %s, and %s is MASTER with %s", v.addr, strings.Join(others, ", "),
				next.Name, own)
		case len(macs) == 0:
			return fmt.Sprintf("nobody claims %v", v.addr)
		}
	}
	return ""
}
