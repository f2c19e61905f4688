package leakguard

import (
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
)

func FuzzConcernsAny(f *testing.F) {
	b, at := netlink.BeginMessage(nil, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE, 0, 1, 2)
	b = append(b, request()...)
	netlink.EndMessage(b, at)
	if !concernsAny(b) {
		f.Fatal("a message about the table is not taken for one")
	}
	f.Add(b)
	f.Add(append(b[:len(b):len(b)], b...))
	f.Fuzz(func(_ *testing.T, datagram []byte) {
		concernsAny(datagram)
		decodeCounter(datagram)
	})
}
