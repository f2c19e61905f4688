package setup

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"sasyncd/cmd/internal/conf"
)

// Side is one of the two gateways.
type Side int

// Sides.
const (
	Own  Side = iota // where the command runs
	Peer             // the other one
)

// Input is what an operator decides about a pair.
type Input struct {
	// Addresses of both sides on the link between them, without a zone.
	Addresses [2]netip.Addr
	// Outside is where the tunnels end, Inside where the hosts are.
	Outside, Inside Network
	IKE             IKE
	// Static is the file with static keys, an absolute path on both sides: of
	// IKEStatic.
	Static string
	// SSH is the peer as ssh(1) takes it, for its root.
	SSH string
	// Wait is how long a failover may take to become possible, in seconds from 1.
	Wait int
}

// Network is one side of a gateway's traffic.
type Network struct {
	Devices [2]string    // interface of each side
	VIPs    []netip.Addr // one or more
	VHID    int          // number of the CARP instance, 1 to 255
}

// Names of the instances and of their group.
const (
	outside = "outside"
	inside  = "inside"
	group   = "ipsec"
)

// IKE is the IKE daemon of the pair.
type IKE string

// IKE daemons. IKENone is for one that sasyncd does not switch.
const (
	IKEStrongswan IKE = "strongswan"
	IKELibreswan  IKE = "libreswan"
	IKEOpeniked   IKE = "openiked"
	IKEStatic     IKE = "static" // no daemon: keys from a file
	IKENone       IKE = "none"
)

var ikes = []IKE{IKEStrongswan, IKELibreswan, IKEOpeniked, IKEStatic, IKENone}

// control returns the value of `control` in sasyncd.conf.
func (in *Input) control() string {
	switch in.IKE {
	case IKEOpeniked:
		return string(conf.ControlIked)
	case IKEStatic:
		return fmt.Sprintf("%s %q", conf.ControlStatic, in.Static)
	}
	return string(in.IKE)
}

var (
	deviceName = regexp.MustCompile(`^[A-Za-z0-9_.@][A-Za-z0-9_.@-]{0,14}$`)
	// sshName keeps options and blanks out: ssh(1) and a shell see it.
	sshName = regexp.MustCompile(`^[A-Za-z0-9_.@:%\[\]][A-Za-z0-9_.@:%\[\]/-]*$`)
	absPath = regexp.MustCompile(`^/[A-Za-z0-9_./@-]+$`)
)

// Check returns all that is wrong with the input by itself. What else could be wrong
// with the files is for their parser.
func (in *Input) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, who := range [2]string{"this gateway", "the peer"} {
		if a := in.Addresses[i]; !unicast(a) {
			bad("address of %s on the sync link: %v is not the address of a host", who, a)
		}
	}
	own, peer := in.Addresses[Own], in.Addresses[Peer]
	switch {
	case own == peer:
		bad("both gateways have the address %v on the sync link", own)
	case own.Is4() != peer.Is4():
		bad("the addresses on the sync link, %v and %v, are not of one family", own, peer)
	}
	for _, n := range in.networks() {
		for i, d := range n.Devices {
			if !deviceName.MatchString(d) {
				bad("interface %s of %s: %q is not the name of one", n.name, [2]string{"this gateway", "the peer"}[i], d)
			}
		}
		if len(n.VIPs) == 0 {
			bad("there is no virtual address %s", n.name)
		}
		for _, a := range n.VIPs {
			switch {
			case !unicast(a):
				bad("virtual address %s: %v is not the address of a host", n.name, a)
			case a == own || a == peer:
				bad("virtual address %s: %v is a gateway's own address on the sync link", n.name, a)
			}
		}
		if n.VHID < 1 || n.VHID > 255 {
			bad("vhid %s: %d is not one of 1 to 255", n.name, n.VHID)
		}
	}
	if !slices.Contains(ikes, in.IKE) {
		bad("IKE daemon: %q is none of %s", in.IKE, list(ikes))
	}
	if in.IKE == IKEStatic && !absPath.MatchString(in.Static) {
		bad("file of static keys: %q is not a path from the root", in.Static)
	}
	if !sshName.MatchString(in.SSH) {
		bad("ssh destination: %q is none", in.SSH)
	}
	if in.Wait < 1 {
		bad("wait: %d is not a number of seconds from 1", in.Wait)
	}
	return errors.Join(errs...)
}

func unicast(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		!a.IsLinkLocalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// named is a network with the name of its instance.
type named struct {
	Network
	name string
}

func (in *Input) networks() []named { return []named{{in.Outside, outside}, {in.Inside, inside}} }

// called names a side for people.
func (in Input) called(s Side) string {
	if s == Own {
		return "this gateway"
	}
	return in.SSH
}

func list[T ~string](words []T) string {
	var out []string
	for _, w := range words {
		out = append(out, string(w))
	}
	return strings.Join(out, ", ")
}
