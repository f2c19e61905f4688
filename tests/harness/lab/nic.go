package lab

import (
	"github.com/vishvananda/netlink"
)

// Adopt moves a network card of the machine we run on, one of user-mode-linux's,
// into the node, names it, and gives it addresses.
func (nd *Node) Adopt(card, inner string, addrs ...string) {
	nd.t.Helper()
	l, err := netlink.LinkByName(card)
	if err == nil {
		err = netlink.LinkSetNsFd(l, int(nd.ns))
	}
	if err == nil {
		l, err = nd.nl.LinkByName(card)
	}
	if err == nil {
		err = nd.nl.LinkSetName(l, inner)
	}
	if err == nil {
		err = nd.nl.LinkSetUp(l)
	}
	for _, a := range addrs {
		if err == nil {
			err = nd.addAddress(inner, a)
		}
	}
	if err != nil {
		nd.t.Fatalf("give %s the card %s: %v", nd.Name, card, err)
	}
}

// Uplink joins the switch with the network that a card of the machine we run on
// is plugged into.
func (sw *Switch) Uplink(card string) {
	n := sw.net
	n.t.Helper()
	n.fabric.Adopt(card, sw.Name+"-up")
	l, err := n.fabric.nl.LinkByName(sw.Name + "-up")
	if err == nil {
		err = n.fabric.nl.LinkSetMaster(l, sw.link)
	}
	if err != nil {
		n.t.Fatalf("plug %s into switch %s: %v", card, sw.Name, err)
	}
}
