package rules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// Further attributes and actions of rules (include/uapi/linux/fib_rules.h), and tables
// (include/uapi/linux/rtnetlink.h).
const (
	fraSuppressGroup = 13 // FRA_SUPPRESS_IFGROUP
	fraPad           = 18
	fraL3MDev        = 19
	fraUnreachable   = 7
	fraProhibit      = 8

	tableMain  = 254
	tableLocal = 255
)

// Denial is a routing rule of another program by which a lookup ends with an error
// before the table main is asked.
type Denial struct {
	Family   sadb.Family
	Pref     uint32
	From     netip.Prefix // not valid: any source
	Incoming string       // the interface that a packet came in by, "" for any
	Action   string       // blackhole, unreachable or prohibit
}

// String is the rule as `ip rule` prints it.
func (d Denial) String() string {
	from := "all"
	if d.From.IsValid() {
		from = d.From.String()
		if d.From.IsSingleIP() {
			from = d.From.Addr().String()
		}
	}
	s := fmt.Sprintf("%d: from %s ", d.Pref, from)
	if d.Incoming != "" {
		s += "iif " + d.Incoming + " "
	}
	return s + d.Action
}

// Rules is what the routing rules of other programs do to packets, whatever the tables
// hold.
type Rules struct {
	Denials []Denial
	// Lost are the address families in which no rule leads to any table but local, so
	// that the kernel has no route to anywhere.
	Lost []sadb.Family
}

// Others reads the routing rules of other programs. It is safe for concurrent use.
type Others struct{ routing *routing }

// OpenOthers opens the routing policy of the calling thread's network namespace. It
// changes nothing and needs no privilege.
func OpenOthers() (*Others, error) {
	r, err := openRouting()
	if err != nil {
		return nil, fmt.Errorf("open routing rules: %w", err)
	}
	return &Others{r}, nil
}

// Close releases the socket.
func (o *Others) Close() error { return o.routing.close() }

// Read reads them. A rule that applies to some packets only, for a mark or a
// protocol for instance, is no Denial.
func (o *Others) Read(ctx context.Context) (r Rules, err error) {
	for _, family := range []sadb.Family{sadb.FamilyIPv4, sadb.FamilyIPv6} {
		payload := make([]byte, sizeRule)
		payload[0] = byte(family)
		list, err := netlink.Collect(ctx, o.routing.req, unix.RTM_GETRULE, payload, func(m netlink.Message) (anyRule,
			bool, error) {
			x, ok := decodeAny(m.Payload)
			return x, ok && m.Type == unix.RTM_NEWRULE, nil
		})
		switch {
		case errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP):
			continue // a kernel without the family
		case err != nil:
			return r, fmt.Errorf("list routing rules: %w", err)
		}
		r.add(family, list)
	}
	return r, nil
}

// add judges the rules of one family, which the kernel lists in their order.
func (r *Rules) add(family sadb.Family, list []anyRule) {
	end := slices.IndexFunc(list, func(x anyRule) bool {
		return x.whole && x.table == tableMain && x.Action == "" &&
			!x.selects
	})
	if end < 0 {
		end = len(list)
	}
	for _, x := range list[:end] {
		if x.Action != "" && x.whole && !x.ours {
			x.Family = family
			r.Denials = append(r.Denials, x.Denial)
		}
	}
	if !slices.ContainsFunc(list, func(x anyRule) bool { return x.Action == "" && x.table != tableLocal && !x.ours }) {
		r.Lost = append(r.Lost, family)
	}
}

// anyRule is a rule of whoever.
type anyRule struct {
	Denial
	ours    bool
	whole   bool   // what it selects by is all in Denial
	selects bool   // it is not for all packets, or passes some routes by
	table   uint32 // of one that looks a table up, Action "" then; 0 for a table by device
}

// decodeAny reads a rule; ok is false for what does neither look up nor deny.
func decodeAny(b []byte) (r anyRule, ok bool) {
	if len(b) < sizeRule {
		return r, false
	}
	r.table = uint32(b[4])
	r.whole = b[1] == 0 && b[3] == 0 && native.Uint32(b[8:])&ruleInvert == 0
	r.selects = b[2] != 0
	for rest := netlink.Attrs(b[sizeRule:]); ; {
		typ, data, more := rest.Next()
		if !more {
			break
		}
		switch typ {
		case fraSrc:
			if a, fits := netip.AddrFromSlice(data); fits {
				r.From = netip.PrefixFrom(a, int(b[2]))
			}
		case fraIncoming:
			r.Incoming, r.selects = unix.ByteSliceToString(data), true
		case fraPriority:
			r.Pref, _ = netlink.Uint32(data)
		case fraTable:
			r.table, _ = netlink.Uint32(data)
		case fraProtocol:
			r.ours = len(data) == 1 && data[0] == routeOwner
		case fraSuppress, fraSuppressGroup:
			if n, _ := netlink.Uint32(data); n != ^uint32(0) {
				r.selects = true
			}
		case fraL3MDev, fraPad:
		default:
			r.whole = false
		}
	}
	switch b[7] {
	case fraToTable:
	case fraBlackhole:
		r.Action = "blackhole"
	case fraUnreachable:
		r.Action = "unreachable"
	case fraProhibit:
		r.Action = "prohibit"
	default:
		return r, false
	}
	return r, true
}
