package lab

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Switch is a bridge in the fabric namespace. It floods multicast and does not
// learn about it, forwards at once, and has no address.
type Switch struct {
	Name string

	net  *Net
	link netlink.Link
}

// Switch adds a switch. Its name is at most 8 bytes.
func (n *Net) Switch(name string) *Switch {
	n.t.Helper()
	off := false
	br := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &off}
	br.Name = name
	nl := n.fabric.nl
	err := nl.LinkAdd(br)
	if err == nil {
		err = nl.LinkSetUp(br)
	}
	if err != nil {
		n.t.Fatalf("make switch %s: %v", name, err)
	}
	return &Switch{Name: name, net: n, link: br}
}

// Port is a cable from a switch to a node. Outer is the bridge port in the
// fabric namespace, Inner the node's interface.
type Port struct {
	Switch *Switch
	Node   *Node
	Outer  string
	Inner  string
	MAC    net.HardwareAddr // of the node's interface

	outer netlink.Link
}

// Plug connects the node to a switch by an interface of the given name, and
// gives it addresses ("192.0.2.1/24"), which are usable at once.
func (nd *Node) Plug(sw *Switch, inner string, addrs ...string) *Port {
	nd.t.Helper()
	p, err := nd.plug(sw, inner)
	if err != nil {
		nd.t.Fatalf("plug %s of %s into %s: %v", inner, nd.Name, sw.Name, err)
	}
	for _, a := range addrs {
		if err := nd.addAddress(inner, a); err != nil {
			nd.t.Fatalf("add address %s to %s of %s: %v", a, inner, nd.Name, err)
		}
	}
	nd.ports = append(nd.ports, p)
	return p
}

func (nd *Node) plug(sw *Switch, inner string) (*Port, error) {
	fabric := nd.net.fabric
	p := &Port{Switch: sw, Node: nd, Outer: sw.Name + "-" + nd.Name, Inner: inner}
	veth := netlink.NewVeth(netlink.NewLinkAttrs())
	veth.Name, veth.PeerName, veth.PeerNamespace = p.Outer, inner, netlink.NsFd(nd.ns)
	if err := fabric.nl.LinkAdd(veth); err != nil {
		return nil, err
	}
	p.outer = veth // LinkAdd filled in its index
	if err := fabric.nl.LinkSetMaster(veth, sw.link); err != nil {
		return nil, err
	}
	if err := fabric.nl.LinkSetUp(veth); err != nil {
		return nil, err
	}
	l, err := nd.nl.LinkByName(inner)
	if err != nil {
		return nil, err
	}
	p.MAC = l.Attrs().HardwareAddr
	return p, nd.nl.LinkSetUp(l)
}

func (nd *Node) addAddress(dev, addr string) error {
	pfx, err := netip.ParsePrefix(addr)
	if err != nil {
		return err
	}
	l, err := nd.nl.LinkByName(dev)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: &net.IPNet{
		IP:   pfx.Addr().AsSlice(),
		Mask: net.CIDRMask(pfx.Bits(), pfx.Addr().BitLen()),
	}}
	if pfx.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return nd.nl.AddrAdd(l, a)
}

// OuterIndex is the interface index of the bridge port in the fabric namespace.
func (p *Port) OuterIndex() int { return p.outer.Attrs().Index }

// Ports returns the node's cables in the order of plugging.
func (nd *Node) Ports() []*Port { return nd.ports }

// Pull unplugs the cable: the node loses carrier.
func (p *Port) Pull() { p.set("pull", p.Node.net.fabric.nl.LinkSetDown) }

// Replug plugs a pulled cable in again.
func (p *Port) Replug() { p.set("replug", p.Node.net.fabric.nl.LinkSetUp) }

func (p *Port) set(what string, f func(netlink.Link) error) {
	p.Node.t.Helper()
	if err := f(p.outer); err != nil {
		p.Node.t.Fatalf("%s %s: %v", what, p.Outer, err)
	}
}

// Part has the nodes at two cables of a switch not reach each other. Both reach all
// others, and carrier stays. One pair of a switch can be parted at a time.
func Part(a, b *Port) { isolate("on", a, b) }

// Rejoin undoes [Part].
func Rejoin(a, b *Port) { isolate("off", a, b) }

func isolate(how string, ports ...*Port) {
	for _, p := range ports {
		p.Node.t.Helper()
		if _, err := p.Node.net.fabric.Try("ip link set dev " + p.Outer + " type bridge_slave isolated " +
			how); err != nil {
			p.Node.t.Fatalf("isolate %s: %v", p.Outer, err)
		}
	}
}

// Way is a direction of traffic, seen from the node.
type Way int

// A node's two directions.
const (
	Out Way = iota // what the node sends
	In             // what the node receives
)

// Block drops all traffic of one direction; carrier stays. What a node sends is
// dropped behind the point of capture, what it receives before.
func (p *Port) Block(w Way) {
	p.Node.t.Helper()
	if w == In {
		p.tc("qdisc replace dev " + p.Outer + " root handle 1: netem loss 100%")
		return
	}
	p.tc("qdisc replace dev "+p.Outer+" handle ffff: ingress",
		"filter replace dev "+p.Outer+" parent ffff: protocol all prio 1 handle 1 matchall action drop")
}

// Unblock undoes [Port.Block] and, for traffic to the node, [Port.Impair].
func (p *Port) Unblock(w Way) {
	p.Node.t.Helper()
	if w == In {
		p.tc("qdisc del dev " + p.Outer + " root")
		return
	}
	p.tc("qdisc del dev " + p.Outer + " ingress")
}

// Impair delays traffic to the node and loses some of it, in percent. To impair
// what a node sends, impair its correspondents.
func (p *Port) Impair(delay, jitter time.Duration, lossPercent float64) {
	p.Node.t.Helper()
	line := fmt.Sprintf("qdisc replace dev %s root handle 1: netem delay %dus %dus loss %s%%", p.Outer,
		delay.Microseconds(), jitter.Microseconds(), strconv.FormatFloat(lossPercent, 'f', -1, 64))
	p.tc(line)
}

func (p *Port) tc(lines ...string) {
	p.Node.t.Helper()
	for _, l := range lines {
		if _, err := p.Node.net.fabric.Try("tc " + l); err != nil {
			p.Node.t.Fatalf("%v", err)
		}
	}
}
