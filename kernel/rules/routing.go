package rules

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// Routing rules and routes, as far as the fence and the bypass need them
// (include/uapi/linux/{rtnetlink,fib_rules}.h).

var native = binary.NativeEndian

const (
	sizeRule  = 12 // struct fib_rule_hdr
	sizeRoute = 12 // struct rtmsg

	fraSrc       = 2
	fraIncoming  = 3 // FRA_IIFNAME
	fraPriority  = 6
	fraSuppress  = 14 // FRA_SUPPRESS_PREFIXLEN
	fraTable     = 15
	fraProtocol  = 21
	fraToTable   = 1
	fraBlackhole = 6
	ruleInvert   = 2 // FIB_RULE_INVERT

	rtaDst      = 1
	rtaOIF      = 4
	rtaGateway  = 5
	rtaPriority = 6
	rtaTable    = 15
	rtaExpires  = 23

	// routeOwner is the protocol number, shown by `ip rule` and `ip route` as
	// "proto 112", of everything this package puts into the routing policy.
	// It is the IP protocol of the election; no routing daemon uses it.
	routeOwner = 112
)

// rule is `{from SRC | [not] iif NAME} {lookup TABLE | blackhole} pref PREF proto 112`.
type rule struct {
	src netip.Addr   // a single address
	net netip.Prefix // a network in place of src, in rules of a Sink
	// iif is the interface that a packet came in by, in place of src; family is
	// then that of the rule, as an address would tell it.
	iif    string
	not    bool // from any other interface than iif
	family sadb.Family
	pref   uint32
	table  uint32 // 0: blackhole
	// pass adds `suppress_prefixlength 0`: where the table finds a default
	// route, the search goes on with the next rule. What is found as an error,
	// a blackhole route for instance, ends it.
	pass bool
}

// route is `DST [via GATEWAY onlink] [dev OIF]` in a table, or one of a special
// type.
type route struct {
	family  sadb.Family
	dst     netip.Prefix // not valid: default
	table   uint32
	kind    uint8 // unix.RTN_*
	metric  uint32
	expires uint32 // seconds; IPv6 only; 0: never
	gateway netip.Addr
	oif     uint32
}

func appendRule(b []byte, r rule) []byte {
	b, h := netlink.Zeros(b, sizeRule)
	h[0], h[7] = byte(r.family), fraBlackhole
	if r.table != 0 {
		h[7] = fraToTable
	}
	if r.not {
		native.PutUint32(h[8:], ruleInvert)
	}
	if r.src.IsValid() {
		h[0], h[2] = byte(sadb.FamilyOf(r.src)), byte(r.src.BitLen())
		b = netlink.AppendAttr(b, fraSrc, r.src.AsSlice())
	}
	if r.net.IsValid() {
		h[0], h[2] = byte(sadb.FamilyOf(r.net.Addr())), byte(r.net.Bits())
		if r.net.Bits() > 0 {
			b = netlink.AppendAttr(b, fraSrc, r.net.Addr().AsSlice())
		}
	}
	if r.iif != "" {
		b = netlink.AppendAttr(b, fraIncoming, append([]byte(r.iif), 0))
	}
	b = netlink.AppendAttr32(b, fraPriority, r.pref)
	if r.table != 0 {
		b = netlink.AppendAttr32(b, fraTable, r.table)
	}
	if r.pass {
		b = netlink.AppendAttr32(b, fraSuppress, 0)
	}
	return netlink.AppendAttr(b, fraProtocol, []byte{routeOwner})
}

func appendRoute(b []byte, r route) []byte {
	b, h := netlink.Zeros(b, sizeRoute)
	h[0], h[5], h[7] = byte(r.family), routeOwner, r.kind
	switch {
	case r.gateway.IsValid():
		native.PutUint32(h[8:], unix.RTNH_F_ONLINK)
	case r.oif != 0 && r.family == sadb.FamilyIPv4:
		h[6] = unix.RT_SCOPE_LINK
	}
	if r.dst.IsValid() {
		h[1] = byte(r.dst.Bits())
		b = netlink.AppendAttr(b, rtaDst, r.dst.Masked().Addr().AsSlice())
	}
	b = netlink.AppendAttr32(b, rtaTable, r.table)
	if r.metric != 0 {
		b = netlink.AppendAttr32(b, rtaPriority, r.metric)
	}
	if r.gateway.IsValid() {
		b = netlink.AppendAttr(b, rtaGateway, r.gateway.AsSlice())
	}
	if r.oif != 0 {
		b = netlink.AppendAttr32(b, rtaOIF, r.oif)
	}
	if r.expires != 0 {
		b = netlink.AppendAttr32(b, rtaExpires, r.expires)
	}
	return b
}

// decodeRule reads a rule of ours; ok is false for any other.
func decodeRule(b []byte) (r rule, ok bool) {
	if len(b) < sizeRule || b[1] != 0 {
		return r, false
	}
	r.table = uint32(b[4])
	r.not = native.Uint32(b[8:])&ruleInvert != 0
	ours := false
	from := netip.PrefixFrom(zeroOf(sadb.Family(b[0])), int(b[2]))
	for rest := netlink.Attrs(b[sizeRule:]); ; {
		typ, data, more := rest.Next()
		if !more {
			break
		}
		switch typ {
		case fraSrc:
			if a, fits := netip.AddrFromSlice(data); fits {
				from = netip.PrefixFrom(a, int(b[2]))
			}
		case fraIncoming:
			r.iif, r.family = unix.ByteSliceToString(data), sadb.Family(b[0])
		case fraPriority:
			r.pref, _ = netlink.Uint32(data)
		case fraTable:
			r.table, _ = netlink.Uint32(data)
		case fraSuppress:
			n, _ := netlink.Uint32(data)
			r.pass = n == 0
		case fraProtocol:
			ours = len(data) == 1 && data[0] == routeOwner
		}
	}
	switch b[7] {
	case fraToTable:
	case fraBlackhole:
		r.table = 0
	default:
		return r, false
	}
	switch {
	case r.pref >= SinkPref && r.pref <= sinkLastPref && r.table >= SinkTable && r.table <= sinkLastTable:
		if from.IsValid() {
			r.net = from.Masked()
		}
	case from.IsSingleIP():
		r.src = from.Addr()
	}
	if r.pref == GuardPref {
		r.family = sadb.Family(b[0])
	}
	return r, ours && (r.src.IsValid() || r.net.IsValid() || r.iif != "" || r.pref == GuardPref)
}

// zeroOf is the address of a family that has no bits set.
func zeroOf(family sadb.Family) netip.Addr {
	switch family {
	case sadb.FamilyIPv4:
		return netip.IPv4Unspecified()
	case sadb.FamilyIPv6:
		return netip.IPv6Unspecified()
	}
	return netip.Addr{}
}

// decodeRoute reads a route of ours; ok is false for any other. It leaves out the metric,
// and the interface of what has a special type.
func decodeRoute(b []byte) (r route, ok bool) {
	if len(b) < sizeRoute || b[5] != routeOwner || native.Uint32(b[8:])&unix.RTM_F_CLONED != 0 {
		return r, false
	}
	r = route{family: sadb.Family(b[0]), table: uint32(b[4]), kind: b[7]}
	dst := zeroOf(r.family)
	for rest := netlink.Attrs(b[sizeRoute:]); ; {
		typ, data, more := rest.Next()
		if !more {
			break
		}
		switch typ {
		case rtaDst:
			dst, _ = netip.AddrFromSlice(data)
		case rtaTable:
			r.table, _ = netlink.Uint32(data)
		case rtaOIF:
			r.oif, _ = netlink.Uint32(data)
		}
	}
	if r.kind != unix.RTN_UNICAST {
		r.oif = 0
	}
	r.dst = netip.PrefixFrom(dst, int(b[1])).Masked()
	return r, r.dst.IsValid()
}

// routing is rtnetlink in one namespace.
type routing struct {
	ns  *netlink.Namespace
	req *netlink.Requester
	// tables lists the routes of one table; nil until the first list.
	tables *netlink.Requester
}

func openRouting() (*routing, error) {
	ns, err := netlink.CurrentNamespace()
	if err != nil {
		return nil, err
	}
	req, err := netlink.NewRequester(func() (*netlink.Socket, error) { return ns.Open(unix.NETLINK_ROUTE, 0, 0) }, 0)
	if err != nil {
		ns.Close()
		return nil, err
	}
	return &routing{ns: ns, req: req}, nil
}

func (r *routing) close() error {
	defer r.ns.Close()
	if r.tables == nil {
		return r.req.Close()
	}
	return errors.Join(r.req.Close(), r.tables.Close())
}

// change is one request to rtnetlink.
type change struct {
	typ, flags uint16
	payload    []byte
	// fine is an error that means that there is nothing to do.
	fine unix.Errno
}

func addRule(r rule) change {
	return change{unix.RTM_NEWRULE, unix.NLM_F_CREATE | unix.NLM_F_EXCL, appendRule(nil, r), unix.EEXIST}
}

func delRule(r rule) change { return change{unix.RTM_DELRULE, 0, appendRule(nil, r), unix.ENOENT} }

// newRoute leaves alone, and does not announce again, what is there already.
func newRoute(r route) change {
	return change{unix.RTM_NEWROUTE, unix.NLM_F_CREATE | unix.NLM_F_EXCL, appendRoute(nil, r), unix.EEXIST}
}

func putRoute(r route) change {
	return change{unix.RTM_NEWROUTE, unix.NLM_F_CREATE | unix.NLM_F_REPLACE, appendRoute(nil, r), 0}
}

func delRoute(r route) change {
	return change{unix.RTM_DELROUTE, 0, appendRoute(nil, r), unix.ESRCH}
}

// apply makes all changes in one system call, each whether or not others fail.
func (r *routing) apply(changes ...change) error {
	_, err := r.applyEach(changes...)
	return err
}

// applyEach is apply. It says of each change whether the kernel made it: not, where it
// failed or there was nothing to do.
func (r *routing) applyEach(changes ...change) (done []bool, err error) {
	if len(changes) == 0 {
		return nil, nil
	}
	done = slices.Repeat([]bool{true}, len(changes))
	var errs []error
	err = r.req.Batch(func(b *netlink.Batch) {
		for _, c := range changes {
			b.Begin(c.typ, c.flags)
			b.Data = append(b.Data, c.payload...)
			b.End()
		}
	}, func(i int, res netlink.Result) {
		done[i] = false
		if res.Errno != changes[i].fine {
			errs = append(errs, fmt.Errorf("change routing (message %d): %w", changes[i].typ, res.Err()))
		}
	})
	if err != nil {
		clear(done) // nobody knows
	}
	return done, errors.Join(append(errs, err)...)
}

// applyChunks makes changes, some at a time. It ends with the first of these that fail.
func (r *routing) applyChunks(changes []change) error {
	for some := range slices.Chunk(changes, 500) {
		if err := r.apply(some...); err != nil {
			return err
		}
	}
	return nil
}

// routes lists the routes of the tables from first to last that carry our protocol number.
// It asks for one table at a time: a list of all would have those of a whole BGP table.
func (r *routing) routes(ctx context.Context, first, last uint32) (list []route, err error) {
	if r.tables == nil {
		r.tables, err = netlink.NewRequester(func() (*netlink.Socket, error) {
			s, err := r.ns.Open(unix.NETLINK_ROUTE, 0, 0)
			if err != nil {
				return nil, err
			}
			if err := s.Strict(); err != nil {
				return nil, errors.Join(fmt.Errorf("the routes of one table cannot be listed, which needs Linux 4.20: %w", err),
					s.Close())
			}
			return s, nil
		}, 0)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
	}
	for _, family := range []sadb.Family{sadb.FamilyIPv4, sadb.FamilyIPv6} {
		for table := first; table <= last; table++ {
			payload := make([]byte, sizeRoute)
			payload[0] = byte(family)
			payload = netlink.AppendAttr(payload, rtaTable, native.AppendUint32(nil, table))
			ours, err := netlink.Collect(ctx, r.tables, unix.RTM_GETROUTE, payload,
				func(m netlink.Message) (route, bool, error) {
					x, ok := decodeRoute(m.Payload)
					return x, ok && m.Type == unix.RTM_NEWROUTE && x.family == family && x.table == table, nil
				})
			switch {
			case errors.Is(err, unix.ENOENT): // there is no such table
			case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP): // nor such a family
			case err != nil:
				return nil, fmt.Errorf("list routes of table %d: %w", table, err)
			}
			list = append(list, ours...)
		}
	}
	return list, nil
}

// rules lists the rules that carry our protocol number.
func (r *routing) rules(ctx context.Context) (list []rule, err error) {
	for _, family := range []sadb.Family{sadb.FamilyIPv4, sadb.FamilyIPv6} {
		payload := make([]byte, sizeRule)
		payload[0] = byte(family)
		ours, err := netlink.Collect(ctx, r.req, unix.RTM_GETRULE, payload, func(m netlink.Message) (rule, bool,
			error) {
			ours, ok := decodeRule(m.Payload)
			return ours, ok && m.Type == unix.RTM_NEWRULE, nil
		})
		// A kernel without one of the families has no rules for it.
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			return nil, fmt.Errorf("list routing rules: %w", err)
		}
		list = append(list, ours...)
	}
	return list, nil
}
