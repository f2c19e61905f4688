package xfrm

import (
	"context"
	"math/rand/v2"
	"sync/atomic"

	"sasyncd/sync/sadb"
)

// Tags mark in the kernel what sasyncd installed; they survive a restart of
// the daemon and are seen in `ip -s xfrm`. The kernel itself counts from 1 in
// both fields.
const (
	tagSA     = 0xe5000000 // km.Seq: 0xe5 and 24 bits that differ from SA to SA
	tagPolicy = 0x5a000000 // index: 0x5a, 21 bits, and the direction in the low 3
	tagBypass = 0x5b000000 // the same for bypass policies
	tagMask   = 0xff000000

	tagPolicySlots = 1 << 21
)

// IsOurs reports whether an SA's tag says that sasyncd installed it.
func IsOurs(tag uint32) bool { return tag&tagMask == tagSA }

// IsOurPolicy reports whether a policy's index says that sasyncd installed it as
// the copy of a master's. Bypass policies are not meant: see [IsBypass].
func IsOurPolicy(index uint32) bool { return index&tagMask == tagPolicy }

// tags hands out tags. The low bits of an SA's tag differ because the kernel
// hashes SAs by it: with one value for all, every addition walks all of them.
type tags struct{ sa, policy atomic.Uint32 }

func (t *tags) nextSA() uint32 { return tagSA | t.sa.Add(1)&^tagMask }

func (t *tags) nextPolicy(dir sadb.Direction) uint32 {
	n := t.policy.Add(1) % tagPolicySlots
	return tagPolicy | n<<3 | uint32(dir-sadb.DirIn)&7
}

// learnTags starts behind the highest policy index of ours: an index in use
// would silently be replaced by one of the kernel's choice.
func (k *Kernel) learnTags(ctx context.Context) error {
	policies, err := k.Policies(ctx)
	if err != nil {
		return err
	}
	var top uint32
	for _, p := range policies {
		if IsOurPolicy(p.Index) {
			top = max(top, p.Index&^tagMask>>3)
		}
	}
	k.tags.policy.Store(top)
	k.tags.sa.Store(rand.Uint32() >> 8)
	return nil
}
