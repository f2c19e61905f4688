package xfrm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// Release returns the kernel's release as `uname -r` prints it.
func Release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// ByteOrder returns "little" or "big": kernels of different order do not
// understand each other's opaque attributes.
func ByteOrder() string {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return "little"
	}
	return "big"
}

// KeysHidden reports whether the kernel withheld the SA's keys: in
// confidentiality lockdown it dumps zeros in their place. Such an SA must not
// be replicated.
func KeysHidden(sa *sadb.SA) bool {
	return slices.ContainsFunc([]*sadb.Algorithm{sa.Auth, sa.Crypt, sa.AEAD}, func(a *sadb.Algorithm) bool {
		return a != nil && a.Key.IsZero()
	})
}

// SPDInfo says how large the policy database is and from which prefix lengths
// on policies are hashed instead of listed (`ip xfrm policy count` and `set
// hthresh4`). Listed ones make every insertion walk the list in kernels before
// 6.12.
type SPDInfo struct {
	In, Out, Fwd, SocketIn, SocketOut int
	Local4, Remote4, Local6, Remote6  int // thresholds in bits
	HashBuckets, MaxHashBuckets       int
}

// SPDInfo reads the size and the thresholds of the policy database.
func (k *Kernel) SPDInfo(ctx context.Context) (info SPDInfo, err error) {
	payload := native.AppendUint32(nil, ^uint32(0))
	err = k.read.Request(ctx, msgGetSPDInfo, unix.NLM_F_ACK, payload, func(m netlink.Message) error {
		if m.Type != msgNewSPDInfo || len(m.Payload) < 4 {
			return nil
		}
		return decodeSPDInfo(&info, m.Payload[4:])
	})
	if err != nil {
		return info, fmt.Errorf("read policy database info: %w", err)
	}
	return info, nil
}

func decodeSPDInfo(info *SPDInfo, rest netlink.Attrs) error {
	for {
		typ, data, ok := rest.Next()
		if !ok {
			return nil
		}
		switch {
		case typ == spdAttrInfo && len(data) >= 24:
			n := func(i int) int { return int(native.Uint32(data[4*i:])) }
			info.In, info.Out, info.Fwd, info.SocketIn, info.SocketOut = n(0), n(1), n(2), n(3), n(4)
		case typ == spdAttrHash && len(data) >= 8:
			info.HashBuckets, info.MaxHashBuckets = int(native.Uint32(data)), int(native.Uint32(data[4:]))
		case typ == spdAttrThreshold4 && len(data) >= 2:
			info.Local4, info.Remote4 = int(data[0]), int(data[1])
		case typ == spdAttrThreshold6 && len(data) >= 2:
			info.Local6, info.Remote6 = int(data[0]), int(data[1])
		}
	}
}

// Defaults says what happens to traffic that no policy matches.
type Defaults struct{ InBlocked, FwdBlocked, OutBlocked bool }

// Defaults reads the default policy (kernel 5.15 and later); before, the error
// is errors.ErrUnsupported, and all is allowed.
func (k *Kernel) Defaults(ctx context.Context) (d Defaults, err error) {
	const blocked = 1 // XFRM_USERPOLICY_BLOCK
	err = k.read.Request(ctx, msgGetDefault, unix.NLM_F_ACK, make([]byte, 4), func(m netlink.Message) error {
		if m.Type == msgGetDefault && len(m.Payload) >= 3 {
			p := m.Payload
			d = Defaults{InBlocked: p[0] == blocked, FwdBlocked: p[1] == blocked, OutBlocked: p[2] == blocked}
		}
		return nil
	})
	if errors.Is(err, unix.EINVAL) {
		return d, fmt.Errorf("read default policy: %w", errors.ErrUnsupported)
	}
	if err != nil {
		return d, fmt.Errorf("read default policy: %w", err)
	}
	return d, nil
}
