package ipsecconf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// hosts reads `from HOSTS [port N] to HOSTS [port N]`, in either order.
func (r *rule) hosts(ports bool) (src, dst []netip.Prefix, sport, dport uint16, ok bool) {
	side := func() (hosts []netip.Prefix, port uint16, ok bool) {
		if hosts, ok = r.hostList(); !ok {
			return nil, 0, false
		}
		if ports && r.accept("port") {
			port, ok = r.port()
		}
		return hosts, port, ok
	}
	switch {
	case r.accept("from"):
		if src, sport, ok = side(); !ok {
			return
		}
		if ok = r.accept("to"); !ok {
			r.errorf(r.peek().pos, "write to and its addresses", "from has no to")
			return
		}
		dst, dport, ok = side()
	case r.accept("to"):
		if dst, dport, ok = side(); !ok {
			return
		}
		if ok = r.accept("from"); !ok {
			r.errorf(r.peek().pos, "write from and its addresses", "to has no from")
			return
		}
		src, sport, ok = side()
	default:
		r.errorf(r.peek().pos, "write from and to with addresses", "the rule does not say between whom")
	}
	return
}

// hostList reads one host or network, or several in braces.
func (r *rule) hostList() ([]netip.Prefix, bool) {
	if !r.peek().mark("{") {
		return r.host()
	}
	open := r.next()
	var out []netip.Prefix
	for {
		switch t := r.peek(); {
		case len(r.toks) == 0:
			r.errorf(open.pos, "close it with } on the same line, or end lines with \\", "the list has no end")
			return nil, false
		case t.mark("}"):
			r.next()
			if len(out) == 0 {
				r.errorf(open.pos, "write addresses in it", "the list is empty")
			}
			return out, len(out) > 0
		case t.mark(","):
			r.next()
		case t.mark("{"): // as of a macro that is a list itself
			hosts, ok := r.hostList()
			if !ok {
				return nil, false
			}
			out = append(out, hosts...)
		default:
			hosts, ok := r.host()
			if !ok {
				return nil, false
			}
			out = append(out, hosts...)
		}
	}
}

// host reads an address, a network, or any, which is one of each family.
func (r *rule) host() ([]netip.Prefix, bool) {
	t := r.peek()
	if r.accept("any") {
		return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(),
			0)}, true
	}
	a, bits, ok := r.address()
	if !ok {
		return nil, false
	}
	if r.peek().mark("(") {
		r.errorf(r.peek().pos, "translate with nftables in front of the flow",
			"flows that translate addresses have no counterpart")
		return nil, false
	}
	p := netip.PrefixFrom(a, bits)
	if p.Masked() != p {
		r.errorf(t.pos, "write "+p.Masked().String(), "%s has bits set beyond its length", p)
		return nil, false
	}
	return []netip.Prefix{p}, true
}

// address reads an address and, behind a /, a length; a string holds both.
func (r *rule) address() (a netip.Addr, bits int, ok bool) {
	t, ok := r.word("this place", "an address")
	if !ok {
		return a, 0, false
	}
	text, length, cut := strings.Cut(t.text, "/")
	if !cut && r.peek().mark("/") {
		r.next()
		l, ok := r.word("/", "the length of the network")
		if !ok {
			return a, 0, false
		}
		length, cut = l.text, true
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		r.errorf(t.pos, "write an address: names and interfaces may mean something else on the other gateway",
			"%s is no address", t.shown())
		return a, 0, false
	case a.Zone() != "" || a.Is4In6():
		r.errorf(t.pos, "write a plain address", "%s has a zone or is an IPv4 address in IPv6", t.shown())
		return a, 0, false
	}
	bits = a.BitLen()
	if cut {
		n, err := strconv.ParseUint(length, 10, 8)
		if err != nil || int(n) > bits {
			r.errorf(t.pos, fmt.Sprintf("write 0 to %d", bits), "the length of the network is none")
			return a, 0, false
		}
		bits = int(n)
	}
	return a, bits, true
}

// single reads the address of one host.
func (r *rule) single(keyword string) (netip.Addr, bool) {
	t := r.peek()
	if t.is("any") {
		r.errorf(t.pos, "write its address", "%s any needs an IKE daemon to find out who that is", keyword)
		return netip.Addr{}, false
	}
	a, bits, ok := r.address()
	if ok && (bits != a.BitLen() || a.IsUnspecified() || a.IsMulticast()) {
		r.errorf(t.pos, "write the address of one host", "%s is %s", keyword, t.shown())
		return a, false
	}
	return a, ok
}

func (r *rule) port() (uint16, bool) {
	t, ok := r.word("port", "a number of 1 to 65535")
	if !ok {
		return 0, false
	}
	if n := services[t.text]; n != 0 {
		return n, true
	}
	n, err := strconv.ParseUint(t.text, 10, 16)
	if err != nil || n == 0 {
		r.errorf(t.pos, "write a number of 1 to 65535", "%s is no port", t.shown())
		return 0, false
	}
	return uint16(n), true
}

// services are ports with the names of /etc/services.
var services = map[string]uint16{"ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "http": 80, "ntp": 123, "snmp": 161,
	"bgp": 179, "ldap": 389, "https": 443, "isakmp": 500, "syslog": 514, "l2tp": 1701}
