package check

// Gateways by what they are at first: gw1 starts alone and is MASTER.
const (
	master  = 0
	standby = 1
	third   = 2
)

// Answers of check. None is a gateway that does not answer.
const (
	Yes     = "yes"
	No      = "no"
	Unknown = "cannot tell"
	None    = "no answer"
)

// Elections that a situation can have.
const (
	VRRP       = "carpd, VRRP" // the default
	CARP       = "carpd, CARP"
	Keepalived = "keepalived, its fifo"
	Address    = "keepalived, by address"
	Link       = "a script, by link"
)

// Situation is one row of the catalogue.
type Situation struct {
	Name string
	// Where it is wrong: "MASTER" and "standby" are what the gateway is before.
	Where string
	// Gateways is their number; 0 is two. Election is one of those above; "" is VRRP.
	Gateways int
	Election string
	// Edits change configuration files before daemons read them.
	Edits []Edit
	// Before is done before the daemons start, Fault while a failover would work.
	Before, Fault []Step
	// Want is what check must say in the end, and Code a finding that it must name
	// on at least one member; "" is none in particular.
	Want string
	Code string
	// Why explains an answer of no though failovers work.
	Why string
	// Quick is part of make test. ESP needs a kernel that has it.
	Quick, ESP bool
	// NoTunnel: nothing of IPsec is there, so no traffic is looked at. VirtualMAC: the
	// addresses are not on the Ethernet address of the interface.
	NoTunnel, VirtualMAC bool
}

// Edit replaces a text of a configuration file, which must stand in it. DIR is the
// gateway's directory.
type Edit struct {
	Gateway  int
	File     string // carpd.conf, sasyncd.conf, sasyncd.key or keepalived.conf
	From, To string
}

// Step is something that is done to a lab.
type Step func(*Site)

// Label is what a situation is picked by: name, place and election.
func (s *Situation) Label() string { return s.Name + ", " + s.Where + ", " + s.election() }

func (s *Situation) gateways() int {
	if s.Gateways == 0 {
		return 2
	}
	return s.Gateways
}

func (s *Situation) election() string {
	if s.Election == "" {
		return VRRP
	}
	return s.Election
}

// carpd reports whether the situation's election is carpd's.
func (s *Situation) carpd() bool { return s.election() == VRRP || s.election() == CARP }

// Combined is the worst of what the members say.
func Combined(said []string) string {
	worst := None
	for _, a := range said {
		switch {
		case a == No, a == Unknown && worst != No, a == Yes && worst == None:
			worst = a
		}
	}
	return worst
}
