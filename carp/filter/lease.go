package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Lease is what lets a virtual router use its addresses: its own advertisements.
type Lease struct {
	Device string
	ID     uint8         // VRID or vhid
	VIPs   []netip.Addr  // of one family
	For    time.Duration // after an advertisement, at least a millisecond
	Live   bool          // the addresses are in use: begin with a lease
}

// Names of the sets of addresses that have a lease, and what nft(8) shows their
// elements as.
const (
	live4, live6           = "live4", "live6"
	typeAddress4           = 7
	typeAddress6           = 8
	etherIPv4, etherIPv6   = 0x0800, 0x86dd
	etherARP               = 0x0806
	advertisement          = 112 // protocol
	sourceIPv4, sourceIPv6 = 12, 8
	targetIPv4, targetIPv6 = 16, 24
	senderARP              = 14
)

// Lease makes the kernel drop what an interface receives for an address and
// sends from it, ARP replies included, unless an advertisement of the router has
// left the interface within For. It is the kernel that sees the advertisement
// leave, so nothing needs to run but what sends them, and a process that is
// stopped or hangs is silent as soon as its addresses may be somewhere else.
//
// It replaces what was leased before, in one step. All devices must exist; rules
// end with their device. Needs Linux 5.16.
func (r *Rules) Lease(ls ...Lease) error {
	b := newBatch(unix.NFPROTO_NETDEV)
	b.renew(len(ls) > 0)
	if len(ls) > 0 {
		b.set(live4, 1, typeAddress4, 4)
		b.set(live6, 2, typeAddress6, 16)
	}
	var devices []string
	for _, l := range ls {
		if !slices.Contains(devices, l.Device) {
			devices = append(devices, l.Device)
			b.hook("in-"+l.Device, unix.NF_NETDEV_INGRESS, l.Device)
			b.hook("out-"+l.Device, unix.NF_NETDEV_EGRESS, l.Device)
		}
	}
	// What renews comes before what drops: an advertisement may itself have an
	// address as its source.
	for _, l := range ls {
		b.renewal(l)
	}
	for _, l := range ls {
		for _, v := range l.VIPs {
			if l.Live {
				b.element(v, l.For)
			}
			b.drops(l.Device, v)
		}
	}
	if err := b.commit(); err != nil {
		return fmt.Errorf("lease addresses: %w", err)
	}
	r.lease = remember(unix.NFPROTO_NETDEV, b.rules)
	return nil
}

func (b *batch) set(name string, id, kind, length uint32) {
	b.add(unix.NFT_MSG_NEWSET, flagsCreate, text(unix.NFTA_SET_TABLE, table), text(unix.NFTA_SET_NAME, name),
		number(unix.NFTA_SET_FLAGS, unix.NFT_SET_TIMEOUT|unix.NFT_SET_EVAL), number(unix.NFTA_SET_KEY_TYPE, kind),
		number(unix.NFTA_SET_KEY_LEN, length), number(unix.NFTA_SET_ID, id))
}

func (b *batch) hook(chain string, hook uint32, device string) {
	b.add(unix.NFT_MSG_NEWCHAIN, flagsCreate, text(unix.NFTA_CHAIN_TABLE, table), text(unix.NFTA_CHAIN_NAME, chain),
		nest(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, hook), signed(unix.NFTA_HOOK_PRIORITY, priority),
			text(unix.NFTA_HOOK_DEV, device)),
		text(unix.NFTA_CHAIN_TYPE, "filter"))
}

func (b *batch) element(v netip.Addr, life time.Duration) {
	set, _, _ := familyOf(v)
	b.add(unix.NFT_MSG_NEWSETELEM, flagsCreate, text(unix.NFTA_SET_ELEM_LIST_TABLE, table),
		text(unix.NFTA_SET_ELEM_LIST_SET, set),
		nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nest(unix.NFTA_LIST_ELEM,
			nest(unix.NFTA_SET_ELEM_KEY, attr(unix.NFTA_DATA_VALUE, v.AsSlice())),
			milliseconds(unix.NFTA_SET_ELEM_TIMEOUT, life))))
}

// familyOf returns the set for an address, the type of its frames, and where the
// protocol is in its header.
func familyOf(v netip.Addr) (set string, ether uint16, proto uint32) {
	if v.Is6() {
		return live6, etherIPv6, 6
	}
	return live4, etherIPv4, 9
}

// renewal gives the addresses of a router a lease with each advertisement that
// leaves.
func (b *batch) renewal(l Lease) {
	if len(l.VIPs) == 0 {
		return
	}
	set, ether, proto := familyOf(l.VIPs[0])
	for vips := range slices.Chunk(l.VIPs, perRule) {
		exprs := [][]byte{
			meta(unix.NFT_META_PROTOCOL), equal(binary.BigEndian.AppendUint16(nil, ether)),
			payload(unix.NFT_PAYLOAD_NETWORK_HEADER, proto, 1), equal([]byte{advertisement}),
			payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 1, 1), equal([]byte{l.ID}),
		}
		for _, v := range vips {
			exprs = append(exprs,
				expr("immediate", number(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_1), nest(unix.NFTA_IMMEDIATE_DATA,
					attr(unix.NFTA_DATA_VALUE, v.AsSlice()))),
				expr("dynset", text(unix.NFTA_DYNSET_SET_NAME, set),
					number(unix.NFTA_DYNSET_OP, unix.NFT_DYNSET_OP_UPDATE),
					number(unix.NFTA_DYNSET_SREG_KEY, unix.NFT_REG_1), milliseconds(unix.NFTA_DYNSET_TIMEOUT, l.For)))
		}
		b.rule("out-"+l.Device, exprs...)
	}
}

// perRule keeps a rule below 128 expressions (NFT_RULE_MAXEXPRS), and what the kernel
// makes of them, some 150 bytes for an address, below 4096 bytes (dlen of struct nft_rule).
const perRule = 16

// drops silences an address without a lease. What announces it to others is not
// kept from this node: it may be an address of another one.
func (b *batch) drops(device string, v netip.Addr) {
	set, ether, _ := familyOf(v)
	silence := func(chain string, ether uint16, offset uint32) {
		b.rule(chain, meta(unix.NFT_META_PROTOCOL), equal(binary.BigEndian.AppendUint16(nil, ether)),
			payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, uint32(v.BitLen()/8)), equal(v.AsSlice()),
			expr("lookup", text(unix.NFTA_LOOKUP_SET, set), number(unix.NFTA_LOOKUP_SREG, unix.NFT_REG_1),
				number(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)),
			expr("counter"), verdict(dropped))
	}
	if v.Is6() {
		silence("in-"+device, ether, targetIPv6)
		silence("out-"+device, ether, sourceIPv6)
		return
	}
	silence("in-"+device, ether, targetIPv4)
	silence("out-"+device, ether, sourceIPv4)
	silence("out-"+device, etherARP, senderARP)
}

func milliseconds(kind uint16, d time.Duration) []byte {
	return attr(kind, binary.BigEndian.AppendUint64(nil, uint64(max(d.Milliseconds(), 1))))
}
