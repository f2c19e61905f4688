// Package filter has rules of nf_tables for what addresses cannot do by
// themselves: they keep out what a router does not accept (RFC 9568 section 6.1,
// Accept_Mode), in the table "inet carpd", and silence a node whose daemon does
// not advertise any more within fractions of a second, in "netdev carpd".
package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	table = "carpd"
	chain = "refuse"

	// Before other filters, and behind connection tracking, which would
	// otherwise keep what is dropped here for half open.
	priority = -150

	loopback = 1 // index of lo in every network namespace

	// ICMPv6 types, RFC 4861.
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
)

// Refuse makes the kernel drop what others send to addresses of this node,
// except neighbour discovery, without which they would not be found; ARP is not
// concerned. Forwarding is not either, nor what the node sends to itself. It
// replaces what was refused before, in one step; with no addresses the table
// goes.
func (r *Rules) Refuse(vips ...netip.Addr) error {
	b := newBatch(unix.NFPROTO_INET)
	b.renew(len(vips) > 0)
	if len(vips) > 0 {
		b.add(unix.NFT_MSG_NEWCHAIN, flagsCreate, text(unix.NFTA_CHAIN_TABLE, table), text(unix.NFTA_CHAIN_NAME, chain),
			nest(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_LOCAL_IN),
				signed(unix.NFTA_HOOK_PRIORITY, priority)),
			text(unix.NFTA_CHAIN_TYPE, "filter"))
	}
	for _, v := range vips {
		if v.Is6() {
			for _, kind := range []byte{neighbourSolicitation, neighbourAdvertisement} {
				b.rule(chain, append(append(to(v), meta(unix.NFT_META_L4PROTO), equal([]byte{unix.IPPROTO_ICMPV6})),
					payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1), equal([]byte{kind}), verdict(unix.NFT_RETURN))...)
			}
		}
		b.rule(chain, append(to(v), meta(unix.NFT_META_IIF),
			compare(unix.NFT_CMP_NEQ, binary.NativeEndian.AppendUint32(nil, loopback)),
			expr("counter"), verdict(dropped))...)
	}
	if err := b.commit(); err != nil {
		return fmt.Errorf("refuse packets to addresses: %w", err)
	}
	r.refused = remember(unix.NFPROTO_INET, b.rules)
	return nil
}

// dropped is NF_DROP of linux/netfilter.h.
const dropped = 0

// to matches packets to an address.
func to(v netip.Addr) [][]byte {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if v.Is6() {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	return [][]byte{
		meta(unix.NFT_META_NFPROTO), equal([]byte{family}),
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, uint32(v.BitLen()/8)), equal(v.AsSlice()),
	}
}

// renew empties the table, and takes it away unless it is wanted.
func (b *batch) renew(wanted bool) {
	// Deleting what is not there fails; making what is there does not.
	name := text(unix.NFTA_TABLE_NAME, table)
	b.add(unix.NFT_MSG_NEWTABLE, flagsCreate, name)
	b.add(unix.NFT_MSG_DELTABLE, flagsDelete, name)
	if wanted {
		b.add(unix.NFT_MSG_NEWTABLE, flagsCreate, name)
	}
}

func (b *batch) rule(chain string, exprs ...[]byte) {
	b.rules++
	b.add(unix.NFT_MSG_NEWRULE, flagsAppend, text(unix.NFTA_RULE_TABLE, table), text(unix.NFTA_RULE_CHAIN, chain),
		nest(unix.NFTA_RULE_EXPRESSIONS, exprs...))
}

// expr encodes an expression of a rule.
func expr(name string, data ...[]byte) []byte {
	return nest(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, name), nest(unix.NFTA_EXPR_DATA, data...))
}

func meta(key uint32) []byte {
	return expr("meta", number(unix.NFTA_META_KEY, key), number(unix.NFTA_META_DREG, unix.NFT_REG_1))
}

func payload(base, offset, length uint32) []byte {
	return expr("payload", number(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1), number(unix.NFTA_PAYLOAD_BASE, base),
		number(unix.NFTA_PAYLOAD_OFFSET, offset), number(unix.NFTA_PAYLOAD_LEN, length))
}

func equal(v []byte) []byte { return compare(unix.NFT_CMP_EQ, v) }

func compare(op uint32, v []byte) []byte {
	return expr("cmp", number(unix.NFTA_CMP_SREG, unix.NFT_REG_1), number(unix.NFTA_CMP_OP, op),
		nest(unix.NFTA_CMP_DATA, attr(unix.NFTA_DATA_VALUE, v)))
}

func verdict(code int32) []byte {
	return expr("immediate", number(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT),
		nest(unix.NFTA_IMMEDIATE_DATA, nest(unix.NFTA_DATA_VERDICT, signed(unix.NFTA_VERDICT_CODE, code))))
}

func signed(kind uint16, v int32) []byte { return number(kind, uint32(v)) }
