package conf

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sasyncd/sync/sadb"
)

// instance reads a carp or vrrp block.
func (c *carpdParser) instance(t token) bool {
	name, ok := c.device(t.text, "the name of the instance")
	if !ok {
		return false
	}
	in := Instance{Pos: t.pos, Name: name.text, Group: DefaultGroup, Lease: LeaseAuto}
	if t.text == "carp" {
		in.CARP = &CARP{AdvBase: DefaultAdvBase, Dialect: DialectOpenBSD}
	} else {
		in.VRRP = &VRRP{Version: 3, Priority: DefaultPriority, Checksum: ChecksumAuto, Accept: true}
	}
	for _, o := range c.c.Instances {
		if o.Name == in.Name {
			c.errorf(name.pos, "give it a name of its own", "instance %s is already at line %d", in.Name, o.Pos.Line)
		}
	}
	complete := true
	var given map[string]Pos
	ok = c.block(t.text, func(k token) bool {
		given = c.given
		if k.text != "address" && k.text != "key" && k.text != "unicast" && k.text != "carppeer" {
			c.once(k)
		} else if _, again := c.given[k.text]; !again {
			c.given[k.text] = k.pos
		}
		one := c.instanceStatement(&in, k)
		complete = complete && one
		return one
	})
	if ok {
		c.finish(&in, given, complete)
	}
	c.c.Instances = append(c.c.Instances, in)
	if in.Group == DefaultGroup && given["group"].IsZero() {
		c.groupRefs = append(c.groupRefs, groupRef{DefaultGroup, in.Pos})
	}
	return ok
}

func (c *carpdParser) instanceStatement(in *Instance, t token) (ok bool) {
	switch t.text {
	case "carpdev":
		d, ok := c.device("carpdev", "the name of an interface")
		in.Device = d.text
		return ok
	case "address":
		return c.address(in)
	case "group":
		g, ok := c.groupName("group")
		if ok {
			in.Group = g.text
			c.groupRefs = append(c.groupRefs, groupRef{g.text, g.pos})
		}
		return ok
	case "mac":
		v, ok := c.oneOf(c.context+" mac", "plain", "virtual")
		in.VirtualMAC = v == "virtual"
		return ok
	case "lease":
		v, ok := c.oneOf(c.context+" lease", "auto", "nftables")
		in.Lease = Lease(v)
		return ok
	case "hops":
		in.Hops, ok = c.byte("hops", 0, 254)
		return ok
	case "preempt":
		v, ok := c.oneOf(c.context+" preempt", "yes", "no", "in-sync")
		in.Preempt = Preempt(v)
		return ok
	case "key":
		return c.authKey(in, t)
	case "auth":
		v, ok := c.oneOf(c.context+" auth", "receive-only", "permissive", "enforce")
		in.Auth = Auth(v)
		return ok
	}
	if in.CARP != nil {
		return c.carpStatement(in.CARP, t)
	}
	return c.vrrpStatement(in.VRRP, t)
}

func (c *carpdParser) carpStatement(cp *CARP, t token) (ok bool) {
	switch t.text {
	case "vhid":
		cp.VHID, ok = c.byte("vhid", 1, 255)
	case "advbase":
		cp.AdvBase, ok = c.byte("advbase", 0, 254)
	case "advskew":
		cp.AdvSkew, ok = c.byte("advskew", 0, 254)
	case "pass":
		cp.Pass, ok = c.pass()
	case "carppeer":
		cp.Peers, ok = c.braced("carppeer", cp.Peers)
	case "carp-dialect":
		v, valueOK := c.oneOf("carp carp-dialect", "openbsd", "freebsd")
		cp.Dialect, ok = Dialect(v), valueOK
	default:
		panic("conf: keyword carp " + t.text + " is in the table and has no parser")
	}
	return ok
}

func (c *carpdParser) vrrpStatement(v *VRRP, t token) (ok bool) {
	switch t.text {
	case "version":
		s, valueOK := c.oneOf("vrrp version", "2", "3")
		if ok = valueOK; ok {
			v.Version = s[0] - '0'
		}
	case "vrid":
		v.VRID, ok = c.byte("vrid", 1, 255)
	case "priority":
		v.Priority, ok = c.byte("priority", 1, 255)
	case "interval":
		v.Interval, ok = c.duration("interval", 10*time.Millisecond, 255*time.Second, 10*time.Millisecond)
	case "unicast":
		v.Unicast, ok = c.braced("unicast", v.Unicast)
	case "pass":
		v.Pass, ok = c.pass()
	case "checksum":
		s, valueOK := c.oneOf("vrrp checksum", "auto", "pseudo", "message")
		v.Checksum, ok = Checksum(s), valueOK
	case "accept":
		v.Accept, ok = c.yesNo("vrrp accept")
	default:
		panic("conf: keyword vrrp " + t.text + " is in the table and has no parser")
	}
	return ok
}

// byte reads a number that fits one byte.
func (p *parser) byte(keyword string, lo, hi uint64) (uint8, bool) {
	n, ok := p.number(keyword, lo, hi)
	return uint8(n), ok
}

// address reads one virtual address, with a prefix length or as a single one.
func (c *carpdParser) address(in *Instance) bool {
	t, ok := c.word("address", "an address")
	if !ok {
		return false
	}
	var pre netip.Prefix
	if strings.Contains(t.text, "/") {
		p, err := netip.ParsePrefix(t.text)
		if err != nil || p.Addr().Is4In6() {
			c.errorf(t.pos, "write for example 192.0.2.1/32 or 2001:db8::1/128",
				"%s is not an address with a prefix length", t)
			return false
		}
		if !c.hostAddress(t, p) {
			return false
		}
		pre = p
	} else {
		a, ok := c.addr(t, "address")
		if !ok {
			return false
		}
		pre = netip.PrefixFrom(a, a.BitLen())
	}
	if !c.vip(t, pre.Addr()) {
		return false
	}
	for _, o := range in.Addresses {
		if o.Addr() == pre.Addr() {
			c.errorf(t.pos, "name it once", "address %s is given twice", pre.Addr())
		}
	}
	c.normal[t.pos] = pre.String()
	in.Addresses = append(in.Addresses, pre)
	return true
}

// hostAddress refuses what is no address of a host in its network, and says what a
// prefix length other than that of a host comes to.
func (c *carpdParser) hostAddress(t token, p netip.Prefix) bool {
	a, host := p.Addr(), p.Addr().BitLen()
	if p.Bits() >= host-1 { // /31 and /127 have two hosts (RFC 3021, RFC 6164)
		if p.Bits() < host {
			c.servedAs(t, p)
		}
		return true
	}
	what := ""
	switch {
	case p.Masked().Addr() == a && a.Is4():
		what = "the address of a network"
	case p.Masked().Addr() == a:
		what = "the subnet-router anycast address"
	case a.Is4() && lastOf(p) == a:
		what = "the broadcast address of its network"
	}
	if what != "" {
		c.errorf(t.pos, "write the address of a host", "%s is %s", p, what)
		return false
	}
	c.servedAs(t, p)
	return true
}

func (c *carpdParser) servedAs(t token, p netip.Prefix) {
	host := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
	c.warnf(t.pos, fmt.Sprintf("write %s, and give the interface an address of its own in that network", host),
		"%s becomes %s, as virtual addresses are always those of a host and bring no route", p, host)
}

// lastOf returns the last address of an IPv4 network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

func (c *carpdParser) pass() (sadb.Secret, bool) {
	t, ok := c.secretWord("pass", "a password")
	if !ok {
		return sadb.Secret{}, false
	}
	c.noteSecret(t.pos)
	return sadb.NewSecret([]byte(t.text)), c.secretEnd("pass", passRemedy)
}

func (c *carpdParser) noteSecret(pos Pos) {
	if c.c.inlineSecret.IsZero() {
		c.c.inlineSecret = pos
	}
}

// authKey reads: key ID (file "PATH" | KEY).
func (c *carpdParser) authKey(in *Instance, t token) bool {
	id, ok := c.byte("key", 0, 255)
	if !ok {
		return false
	}
	k := AuthKey{Pos: t.pos, ID: id}
	for _, o := range in.Keys {
		if o.ID == id {
			c.errorf(t.pos, "give each key a number of its own", "key %d is already at line %d", id, o.Pos.Line)
		}
	}
	if c.accept("file") {
		k.File, ok = c.path("key file")
	} else {
		w, wordOK := c.secretWord("key", "file and a path, or the key")
		if !wordOK {
			return false
		}
		c.noteSecret(w.pos)
		secret, problem, remedy := authSecret(w.text)
		if problem != "" {
			c.errorf(w.pos, remedy, "%s", problem)
			return false
		}
		k.Secret, k.Text = secret, !strings.HasPrefix(w.text, "0x")
		ok = c.secretEnd("key", passRemedy)
	}
	if ok {
		in.Keys = append(in.Keys, k)
	}
	return ok
}

// authSecret checks a key of the HMAC trailer: 32 to 64 bytes
// (draft-cassen-vrrp-auth-hmac), as 0x and hexadecimal digits or as characters.
func authSecret(s string) (k sadb.Secret, problem, remedy string) {
	b := []byte(s)
	if h, ok := strings.CutPrefix(s, "0x"); ok && hexDigits(h) {
		var err error
		if b, err = hex.DecodeString(h); err != nil {
			return k, fmt.Sprintf("a key of %d hexadecimal digits ends in half a byte", len(h)),
				"write an even number of digits, 64 to 128"
		}
	}
	if len(b) < 32 || len(b) > 64 {
		return k, fmt.Sprintf("a key of %d bytes is too short or too long", len(b)),
			"write 0x and 64 to 128 hexadecimal digits (32 to 64 bytes)"
	}
	return sadb.NewSecret(b), "", ""
}
