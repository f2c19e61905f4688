package sadbtest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"weak"

	"sasyncd/sync/sadb"
)

// VIPs returns the virtual IPs of the gateways whose tunnels Tunnel makes.
func VIPs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
}

// Tunnel returns the pair of SAs and the policies of one tunnel between one of
// the VIPs and the n-th remote gateway.
func Tunnel(r *rand.Rand, n int, v6 bool) []sadb.Op {
	vips := VIPs()
	vip, remote := vips[0], netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
	local, far := netip.MustParsePrefix("10.1.0.0/24"), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(n), 0}),
		24)
	if v6 {
		vip, remote = vips[1], netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff::%x", n+1))
		local, far = netip.MustParsePrefix("fd00:1::/64"), netip.MustParsePrefix(fmt.Sprintf("fd00:2:%x::/64", n+1))
	}
	key := make([]byte, 20)
	for i := range key {
		key[i] = byte(r.Uint32())
	}
	sa := func(src, dst netip.Addr) *sadb.SA {
		s := &sadb.SA{Key: sadb.SAKey{Dst: dst, SPI: r.Uint32() | 0x1000, Proto: sadb.ProtoESP}, Src: src,
			Selector: sadb.Selector{Family: sadb.FamilyOf(dst)}, Mode: sadb.ModeTunnel, Reqid: uint32(n + 1),
			AEAD: &sadb.Algorithm{Name: "rfc4106(gcm(aes))", Key: sadb.NewSecret(key), TruncBits: 128}, Window: 32,
			Limits: sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit, SoftPackets: sadb.NoLimit,
				HardPackets: sadb.NoLimit, HardAdd: 3600, SoftAdd: 3000}}
		if n%2 == 0 {
			s.Flags, s.BitmapLen, s.Window = sadb.FlagESN, 4, 128
		}
		return s
	}
	pol := func(dir sadb.Direction, src, dst netip.Prefix, tsrc, tdst netip.Addr) *sadb.Policy {
		return &sadb.Policy{Key: sadb.PolicyKey{Dir: dir, Selector: sadb.SelectorOf(src, dst)},
			Templates: []sadb.Template{{Src: tsrc, Dst: tdst, Proto: sadb.ProtoESP, Family: sadb.FamilyOf(tdst),
				Reqid: uint32(n + 1), Mode: sadb.ModeTunnel}}}
	}
	return []sadb.Op{
		{Kind: sadb.OpAddSA, SA: sa(vip, remote)},
		{Kind: sadb.OpAddSA, SA: sa(remote, vip)},
		{Kind: sadb.OpAddPolicy, Policy: pol(sadb.DirOut, local, far, vip, remote)},
		{Kind: sadb.OpAddPolicy, Policy: pol(sadb.DirIn, far, local, remote, vip)},
		{Kind: sadb.OpAddPolicy, Policy: pol(sadb.DirFwd, far, local, remote, vip)},
	}
}

// Negotiated returns fresh SAs for the tunnel that ops made, and its policies
// with the outbound one naming the fresh SA, as charon's does, if spi is set.
func Negotiated(r *rand.Rand, ops []sadb.Op, spi bool) []sadb.Op {
	var out []sadb.Op
	var to *sadb.SA
	for _, op := range ops {
		switch {
		case op.SA != nil:
			sa := *op.SA
			sa.Key.SPI = r.Uint32() | 0x1000
			if to == nil {
				to = &sa
			}
			out = append(out, sadb.Op{Kind: sadb.OpAddSA, SA: &sa})
		case spi && op.Policy.Key.Dir == sadb.DirOut:
			p := *op.Policy
			p.Templates = []sadb.Template{op.Policy.Templates[0]}
			p.Templates[0].SPI = to.Key.SPI
			out = append(out, sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: &p})
		}
	}
	return out
}

// KeyHolder watches the memory of an SA's key.
type KeyHolder struct{ key weak.Pointer[byte] }

// WatchKey begins to watch the key of an SA of Tunnel.
func WatchKey(sa *sadb.SA) KeyHolder { return KeyHolder{weak.Make(&sa.AEAD.Key.Bytes()[0])} }

// Held reports whether anybody holds the key still.
func (h KeyHolder) Held() bool {
	runtime.GC()
	runtime.GC()
	return h.key.Value() != nil
}
