package conformance

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink/nl"

	"sasyncd/kernel/kerneltest"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
	"sasyncd/tests/harness"
)

// TestDirectedClone sends an SA of each form with a direction from one namespace to another, by
// way of the protocol; the kernel then dumps the same bytes, but for tags and dates. A kernel
// without directions holds what it knows of them. With -update a kernel with directions records
// its dump for the codec's own tests, in a file with its release in the name.
func TestDirectedClone(t *testing.T) {
	var snap *sadb.Snapshot
	var want [][]byte
	if !t.Run("source", func(t *testing.T) {
		enterNS(t)
		k := openKernel(t)
		for _, sa := range kerneltest.Directed() {
			fit, _ := k.Features().Fit(sa.SA)
			mustApply(t, k, sadb.Op{Kind: sadb.OpAddSA, SA: fit})
		}
		var err error
		if snap, err = k.Dump(t.Context()); err != nil {
			t.Fatal(err)
		}
		want = rawSAs(t)
		if *update && k.Features().Direction {
			record(t, "directed-"+xfrm.Release()+".bin", want)
		}
	}) {
		return
	}
	if len(want) != len(kerneltest.Directed()) {
		t.Fatalf("%d SAs, want %d", len(want), len(kerneltest.Directed()))
	}
	t.Run("clone", func(t *testing.T) {
		enterNS(t)
		k := openKernel(t)
		for i, sa := range snap.SAs {
			sent, err := wire.ParseSA(wire.AppendSA(nil, sa))
			if err != nil {
				t.Fatalf("%s: %v", sa.Key, err)
			}
			snap.SAs[i] = sent
		}
		mustApply(t, k, cloneOps(snap)...)
		compareRaw(t, "sa", rawSAs(t), want, normalSA)
	})
}

// record writes messages as the kernel sends them into a fixture, the oldest first.
func record(t *testing.T, name string, raw [][]byte) {
	t.Helper()
	var out bytes.Buffer
	for i := len(raw) - 1; i >= 0; i-- {
		var h [16]byte // struct nlmsghdr
		binary.NativeEndian.PutUint32(h[:], uint32(len(h)+len(raw[i])))
		binary.NativeEndian.PutUint16(h[4:], nl.XFRM_MSG_NEWSA)
		out.Write(h[:])
		out.Write(raw[i])
	}
	path := filepath.Join(fixtures, name)
	if harness.Guest() {
		path = filepath.Join(harness.ArtifactDir(), name)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
