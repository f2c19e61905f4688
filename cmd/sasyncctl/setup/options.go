package setup

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sasyncd/cmd/internal/spell"
)

// option is one flag of init that has a value.
type option struct {
	name, arg, text string
	// question is what is asked where the flag is missing, "" for one that is not.
	question string
	// fallback gives the value that a missing flag has, "" for none: then the flag
	// is needed. nil: none.
	fallback func(*options) string
	// follows is the option whose value a missing flag has.
	follows string
	// check says what is wrong with a value.
	check func(string) error

	value string
}

// options are the command line.
type options struct {
	list          []*option
	peer          string
	print, dryRun bool
	help          bool
}

// Flags of init.
const (
	flagOwn         = "own"
	flagOutside     = "outside"
	flagOutsideVIP  = "outside-vip"
	flagOutsideVHID = "outside-vhid"
	flagPeerOutside = "peer-outside"
	flagInside      = "inside"
	flagInsideVIP   = "inside-vip"
	flagInsideVHID  = "inside-vhid"
	flagPeerInside  = "peer-inside"
	flagIKE         = "ike"
	flagStatic      = "static"
	flagSSH         = "ssh"
	flagWait        = "wait"
)

// newOptions returns the options without values. own suggests this gateway's address on
// the link that an address of the peer belongs to.
func newOptions(own func(peer netip.Addr) string) *options {
	always := func(value string) func(*options) string { return func(*options) string { return value } }
	return &options{list: []*option{
		{name: flagOwn, arg: "ADDRESS", text: "this gateway's address on the sync link",
			question: "address of this gateway on the sync link", check: checkAddress,
			fallback: func(o *options) string {
				a, err := netip.ParseAddr(o.peer)
				if err != nil {
					return ""
				}
				return own(a)
			}},
		{name: flagOutside, arg: "INTERFACE", text: "where the tunnels end", question: "interface outside",
			check: checkDevice},
		{name: flagOutsideVIP, arg: "ADDRESSES", text: "virtual addresses there, with commas between them",
			question: "virtual addresses outside", check: checkAddresses},
		{name: flagOutsideVHID, arg: "NUMBER", text: "of the CARP instance there (10)", question: "vhid outside",
			check: checkNumber, fallback: always("10")},
		{name: flagInside, arg: "INTERFACE", text: "where the hosts are", question: "interface inside",
			check: checkDevice},
		{name: flagInsideVIP, arg: "ADDRESSES", text: "virtual addresses there", question: "virtual addresses inside",
			check: checkAddresses},
		{name: flagInsideVHID, arg: "NUMBER", text: "of the CARP instance there (11)", question: "vhid inside",
			check: checkNumber, fallback: always("11")},
		{name: flagPeerOutside, arg: "INTERFACE", text: "of the peer, if it has another name",
			check: checkDevice, follows: flagOutside},
		{name: flagPeerInside, arg: "INTERFACE", text: "of the peer, if it has another name",
			check: checkDevice, follows: flagInside},
		{name: flagIKE, arg: "DAEMON", text: list(ikes), question: "IKE daemon (" + list(ikes) + ")", check: checkIKE},
		{name: flagStatic, arg: "FILE", text: "of --ike static (/etc/sasyncd/ipsec.conf)",
			fallback: always("/etc/sasyncd/ipsec.conf")},
		{name: flagSSH, arg: "DESTINATION", text: "the peer for ssh, as root (root@PEER)",
			question: "ssh destination of the peer", fallback: func(o *options) string { return "root@" + o.peer }},
		{name: flagWait, arg: "SECONDS", text: "until a failover has to be possible (60)", check: checkNumber,
			fallback: always("60")},
	}}
}

func (o *options) option(name string) *option {
	return o.list[slices.IndexFunc(o.list, func(x *option) bool { return x.name == name })]
}

func (o *options) get(name string) string { return o.option(name).value }

// complete fills in what is missing: by asking, where ask is not nil, else by what each
// option falls back to. It reports whether anything was asked.
func (o *options) complete(ask func(question, fallback string) (string, error)) (asked bool, err error) {
	var missing []string
	for _, x := range o.list {
		if x.value != "" {
			if err := x.wrong(x.value); err != nil {
				return asked, fmt.Errorf("--%s: %w", x.name, err)
			}
			continue
		}
		if x.follows != "" {
			x.value = o.get(x.follows)
			continue
		}
		fallback := ""
		if x.fallback != nil {
			fallback = x.fallback(o)
		}
		if ask == nil || x.question == "" {
			if x.value = fallback; fallback == "" {
				missing = append(missing, "--"+x.name)
			}
			continue
		}
		asked = true
		for question := x.question; x.value == ""; {
			answer, err := ask(question, fallback)
			if err != nil {
				return asked, err
			}
			if answer = cmp.Or(answer, fallback); answer == "" {
				continue
			}
			if err := x.wrong(answer); err != nil {
				question = err.Error() + "\n" + x.question
				continue
			}
			x.value = answer
		}
	}
	if len(missing) > 0 {
		return asked, fmt.Errorf("missing: %s", strings.Join(missing, " "))
	}
	return asked, nil
}

func (x *option) wrong(value string) error {
	if x.check == nil {
		return nil
	}
	return x.check(value)
}

// input makes the input of complete options.
func (o *options) input() (Input, error) {
	own, err := netip.ParseAddr(o.get(flagOwn))
	if err != nil {
		return Input{}, fmt.Errorf("--%s: %w", flagOwn, err)
	}
	peer, err := netip.ParseAddr(o.peer)
	if err != nil {
		return Input{}, fmt.Errorf("PEER is its address on the sync link: %w", err)
	}
	network := func(device, peerDevice, vips, vhid string) Network {
		n := Network{Devices: [2]string{o.get(device), o.get(peerDevice)}}
		n.VIPs, _ = addresses(o.get(vips))    // complete has checked it
		n.VHID, _ = strconv.Atoi(o.get(vhid)) // and this
		return n
	}
	in := Input{Addresses: [2]netip.Addr{own, peer}, IKE: IKE(o.get(flagIKE)), Static: o.get(flagStatic),
		SSH:     o.get(flagSSH),
		Outside: network(flagOutside, flagPeerOutside, flagOutsideVIP, flagOutsideVHID),
		Inside:  network(flagInside, flagPeerInside, flagInsideVIP, flagInsideVHID)}
	in.Wait, _ = strconv.Atoi(o.get(flagWait)) // complete has checked it
	return in, in.Check()
}

func checkDevice(s string) error {
	if !deviceName.MatchString(s) {
		return fmt.Errorf("%q is not the name of an interface", s)
	}
	return nil
}

func checkAddress(s string) error {
	_, err := netip.ParseAddr(s)
	return err
}

func checkAddresses(s string) error {
	_, err := addresses(s)
	return err
}

// addresses reads a list with commas or blanks between its entries. The length of a
// prefix may be that of a host.
func addresses(s string) (out []netip.Addr, err error) {
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		a, err := netip.ParseAddr(w)
		if p, perr := netip.ParsePrefix(w); perr == nil && p.IsSingleIP() {
			a, err = p.Addr(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is not an address: want for example 192.0.2.1 or 2001:db8::1", w)
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%q has no address", s)
	}
	return out, nil
}

func checkNumber(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 1 {
		return fmt.Errorf("%q is not a number from 1", s)
	}
	return nil
}

func checkIKE(s string) error {
	if slices.Contains(ikes, IKE(s)) {
		return nil
	}
	var words []string
	for _, k := range ikes {
		words = append(words, string(k))
	}
	if n := spell.Nearest(s, words); n != "" {
		return fmt.Errorf("%q is no IKE daemon, did you mean %s?", s, n)
	}
	return fmt.Errorf("%q is no IKE daemon: want one of %s", s, list(ikes))
}
