package xfrm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// attrNested is NLA_F_NESTED. No attribute of an SA is nested, and the kernel refuses the
// flag on those from XFRMA_SA_DIR on (the strict_start_type of xfrma_policy).
const attrNested = 0x8000

// nobody is the identity of an SA that cannot exist: an SPI of 0 is the kernel's own word
// for none.
var nobody = sadb.SAKey{Dst: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Proto: sadb.ProtoESP}

// Knows reports whether the kernel knows a type of attribute, XFRMA_SA_DIR or newer, given
// data of the length that it has. It asks for an SA that does not exist and gives the
// attribute in a form that is refused before the SA is looked for; a kernel that does not
// know the type ignores it and reports that there is no such SA. Nothing changes.
func (k *Kernel) Knows(ctx context.Context, typ uint16, data []byte) (bool, error) {
	payload := netlink.AppendAttr(appendKey(nil, nobody), typ|attrNested, data)
	switch err := k.read.Request(ctx, msgGetSA, unix.NLM_F_ACK, payload, nil); {
	case errors.Is(err, unix.ESRCH):
		return false, nil
	case errors.Is(err, unix.EINVAL):
		return true, nil
	default:
		return false, fmt.Errorf("ask for attribute %d: %w", typ, err)
	}
}

// learnFeatures asks the kernel what it knows.
func (k *Kernel) learnFeatures(ctx context.Context) error {
	k.features = sadb.AllFeatures()
	for _, a := range []struct {
		known *bool
		typ   uint16
		size  int
	}{{&k.features.Direction, attrDirection, 1}, {&k.features.Keepalive, attrKeepalive, 4},
		{&k.features.PCPU, attrPCPU, 4}} {
		known, err := k.Knows(ctx, a.typ, make([]byte, a.size))
		if err != nil {
			return err
		}
		*a.known = known
	}
	return nil
}

// Features returns what the kernel knows of what an SA may have. The number of its CPUs
// is not known: an SA of a CPU that it does not have is refused with ERANGE.
func (k *Kernel) Features() sadb.Features { return k.features }
