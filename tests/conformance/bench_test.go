package conformance

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
)

// benchSAs makes SAs with random SPIs and addresses: the kernel's hashes are
// plain sums, which orderly ones would all put into one bucket.
func benchSAs(n int) (list []*sadb.SA) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range n {
		sa := kerneltest.SampleESN("192.0.2.1", "198.51.100.1", 0x1000+rnd.Uint32N(1<<31))
		sa.Key.Dst = netip.AddrFrom4([4]byte{10, byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())})
		sa.Reqid = rnd.Uint32()
		list = append(list, sa)
	}
	return list
}

func benchOps(kind sadb.OpKind, list []*sadb.SA) (ops []sadb.Op) {
	for _, sa := range list {
		ops = append(ops, sadb.Op{Kind: kind, SA: sa})
	}
	return ops
}

const benchSize = 10_000

// BenchmarkDump compares a dump of 10,000 SAs with a loop that only reads it.
func BenchmarkDump(b *testing.B) {
	enterNS(b)
	k := openKernel(b)
	mustApply(b, k, benchOps(sadb.OpAddSA, benchSAs(benchSize))...)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_XFRM)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			if n := bareDump(b, fd, buf); n != benchSize {
				b.Fatalf("%d sas", n)
			}
		}
	})
	b.Run("kernel.Dump", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			snap, err := k.Dump(b.Context())
			if err != nil || len(snap.SAs) != benchSize {
				b.Fatalf("%d sas, error %v", len(snap.SAs), err)
			}
		}
	})
}

// BenchmarkApply is 10,000 SAs added, given counters, and deleted.
func BenchmarkApply(b *testing.B) {
	enterNS(b)
	k := openKernel(b)
	list := benchSAs(benchSize)
	for _, kind := range []sadb.OpKind{sadb.OpAddSA, sadb.OpSetCounters, sadb.OpDeleteSA} {
		ops := benchOps(kind, list)
		b.Run(kind.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				switch kind {
				case sadb.OpAddSA:
					mustApply(b, k, benchOps(sadb.OpDeleteSA, list)...)
				case sadb.OpDeleteSA:
					k.Apply(b.Context(), benchOps(sadb.OpAddSA, list))
				}
				b.StartTimer()
				mustApply(b, k, ops...)
			}
		})
	}
}

// bareDump reads all SAs and counts them.
func bareDump(b *testing.B, fd int, buf []byte) (n int) {
	req := make([]byte, 16)
	binary.NativeEndian.PutUint32(req, 16)
	binary.NativeEndian.PutUint16(req[4:], 0x12) // GETSA
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		b.Fatal(err)
	}
	for {
		got, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			b.Fatal(err)
		}
		for rest := buf[:got]; len(rest) >= 16; {
			if binary.NativeEndian.Uint16(rest[4:]) == unix.NLMSG_DONE {
				return n
			}
			n++
			rest = rest[binary.NativeEndian.Uint32(rest):]
		}
	}
}
