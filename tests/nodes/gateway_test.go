package nodes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sasyncd/carp/api"
	"sasyncd/sync/engine"
	"sasyncd/tests/ask"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// Gateway is the service of a machine that is a gateway: cards lan0, wan0 and
// sync0, addresses as in the standard lab, and the two daemons.
type Gateway struct {
	g    *guest
	node *lab.Node

	carpd, sasyncd *lab.Daemon
	conf           string // of sasyncd
}

// Place says which gateway a machine becomes.
type Place struct {
	N     int    // counted from 1
	Carpd string // its configuration, see [Daemons]
}

// Setup boots: what carpd-fence.service does, then forwarding, then the cards.
func (s *Gateway) Setup(p Place, _ *struct{}) error {
	return s.g.try(func() {
		s.node = lab.New(s.g).Node(fmt.Sprintf("gw%d", p.N))
		bin, err := harness.Binary("carpd")
		if err != nil {
			s.g.Fatalf("%v", err)
		}
		s.node.Run(bin + " -c " + s.node.WriteFile("carpd.conf", s.place(p.Carpd)) + " cleanup")
		s.node.Forward()
		for i, c := range []struct{ name, v4, v6 string }{{"lan0", "10.1.0", "fd00:1"}, {"wan0", "192.0.2", "2001:db8"},
			{"sync0", "10.9.0", "fd00:9"}} {
			s.node.Adopt(fmt.Sprintf("vec%d", i), c.name, fmt.Sprintf("%s.%d/24", c.v4, 10+p.N),
				fmt.Sprintf("%s::%d/64", c.v6, 10+p.N))
		}
		s.node.IP("route add 10.2.0.0/24 via 192.0.2.100", "route add fd00:2::/64 via 2001:db8::100 dev wan0")
	})
}

// Daemons are the configuration of a gateway. In it DIR stands for a directory
// that a loss of power empties, DISK for one that it does not.
type Daemons struct {
	Carpd, Sasyncd, Key string
}

// Start starts both daemons.
func (s *Gateway) Start(d Daemons, _ *struct{}) error {
	return s.g.try(func() {
		for _, dir := range []string{"carpd", "sasyncd"} {
			if err := os.MkdirAll(filepath.Join(harness.DiskDir, dir), 0o700); err != nil {
				s.g.Fatalf("make state directory: %v", err)
			}
		}
		s.node.WriteFile("sasyncd.key", d.Key+"\n")
		s.carpd = s.node.Daemon("carpd", "-dc", s.node.WriteFile("carpd.conf", s.place(d.Carpd)))
		s.conf = s.node.WriteFile("sasyncd.conf", s.place(d.Sasyncd))
		s.sasyncd = s.node.Daemon("sasyncd", "-dc", s.conf)
	})
}

func (s *Gateway) place(conf string) string {
	return strings.NewReplacer("DIR", s.node.Dir(), "DISK", harness.DiskDir).Replace(conf)
}

// Restart kills sasyncd and starts it again; the kernel keeps its tables.
func (s *Gateway) Restart(_ struct{}, _ *struct{}) error {
	return s.g.try(func() {
		s.sasyncd.Kill()
		s.sasyncd = s.node.Daemon("sasyncd", "-dc", s.conf)
	})
}

// IP runs lines of "ip -batch".
func (s *Gateway) IP(lines []string, _ *struct{}) error {
	return s.g.try(func() { s.node.IP(lines...) })
}

// State is what a gateway's daemons say.
type State struct {
	Elected string // by carpd: one of package api
	Role    string // as sasyncd has it
	InSync  bool
	SAs     int
	Why     string
	Fit     bool // "sasyncctl check" is content
	Reasons []string
	Term    uint64
	Refused int
	Repairs uint64
}

// State asks the daemons.
func (s *Gateway) State(_ struct{}, st *State) error {
	if s.sasyncd == nil {
		return errors.New("no daemons")
	}
	socket := filepath.Join(s.node.Dir(), "sasyncd.sock")
	var status engine.Status
	if err := scenario.Ask(socket, "status", &status); err != nil {
		return err
	}
	if len(status.Groups) != 1 {
		return fmt.Errorf("sasyncd has %d groups, want 1", len(status.Groups))
	}
	g := status.Groups[0]
	st.Role, st.InSync, st.SAs, st.Why, st.Term = g.Role, g.InSync, g.SAs, g.Why, g.Term
	st.Refused, st.Repairs = g.Refused, status.Counts.Repairs
	var v struct {
		Fit     bool
		Reasons []struct{ What, Remedy string }
	}
	if err := scenario.Ask(socket, "check", &v); err != nil {
		return err
	}
	st.Fit = v.Fit
	for _, r := range v.Reasons {
		st.Reasons = append(st.Reasons, r.What)
	}
	m, err := ask.Carpd(filepath.Join(s.node.Dir(), "carpd.sock"), api.Request{Verb: api.VerbStatus}, 5*time.Second)
	if err != nil {
		return err
	}
	for _, g := range m.Groups {
		st.Elected = g.State
	}
	return nil
}

// Tables reads the kernel's.
func (s *Gateway) Tables(_ struct{}, t *scenario.Tables) (err error) {
	*t, err = scenario.ReadTables(s.node)
	return err
}

// Logs answers with what the daemons printed, by name.
func (s *Gateway) Logs(_ struct{}, logs *map[string]string) error {
	*logs = map[string]string{}
	for name, d := range map[string]*lab.Daemon{"carpd": s.carpd, "sasyncd": s.sasyncd} {
		if d != nil {
			(*logs)[name] = d.Output()
		}
	}
	return nil
}

// Failures answers with what went wrong between calls: daemons that ended.
func (s *Gateway) Failures(_ struct{}, list *[]string) error {
	*list = s.g.failures()
	return nil
}
