package xfrm

import "encoding/binary"

// Message types, include/uapi/linux/xfrm.h (enum of XFRM_MSG_BASE).
const (
	msgNewSA       = 0x10
	msgDelSA       = 0x11
	msgGetSA       = 0x12
	msgNewPolicy   = 0x13
	msgDelPolicy   = 0x14
	msgGetPolicy   = 0x15
	msgAcquire     = 0x17
	msgExpire      = 0x18
	msgUpdPolicy   = 0x19
	msgUpdSA       = 0x1a
	msgPolExpire   = 0x1b
	msgFlushSA     = 0x1c
	msgFlushPolicy = 0x1d
	msgNewAE       = 0x1e
	msgMigrate     = 0x21
	msgNewSPDInfo  = 0x24
	msgGetSPDInfo  = 0x25
	msgMapping     = 0x26
	msgGetDefault  = 0x28
	// msgMigrateState moves one SA to other addresses (7.2).
	msgMigrateState = 0x29
)

// Attributes, include/uapi/linux/xfrm.h (enum xfrm_attr_type_t). Those from 33 on are
// newer than Debian 12's headers. A release names the first of mainline; distributions
// have them in older ones too, so a kernel is asked: see [Kernel.Knows].
const (
	attrAuth          = 1
	attrCrypt         = 2
	attrComp          = 3
	attrEncap         = 4
	attrTemplates     = 5
	attrSA            = 6
	attrPolicy        = 7
	attrSecCtx        = 8
	attrLifetime      = 9
	attrReplay        = 10
	attrLastUsed      = 15
	attrPolicyType    = 16
	attrAEAD          = 18
	attrAuthTrunc     = 20
	attrMark          = 21
	attrTFCPad        = 22
	attrReplayESN     = 23
	attrExtraFlags    = 24
	attrPad           = 27
	attrOffload       = 28
	attrSetMark       = 29
	attrSetMarkMask   = 30
	attrIfID          = 31
	attrMappingTimer  = 32
	attrDirection     = 33 // 6.10
	attrKeepalive     = 34 // 6.11
	attrPCPU          = 35 // 6.13; Debian's 6.12 has it
	spdAttrInfo       = 1
	spdAttrHash       = 2
	spdAttrThreshold4 = 3
	spdAttrThreshold6 = 4
)

// Sizes of the kernel's structures, the same on all 64-bit architectures.
const (
	sizeSelector   = 56
	sizeSA         = 224
	sizeSAID       = 24
	sizeAEventID   = 48
	sizePolicy     = 168
	sizePolicyID   = 64
	sizeTemplate   = 64
	sizeExpire     = 232
	sizePolExpire  = 176
	sizeMapping    = 64
	sizeReplay     = 12
	sizeReplayESN  = 24
	sizeLifetime   = 32
	sizeEncap      = 24
	sizeAlgName    = 64
	sizePolicyType = 6
)

// Offsets in struct xfrm_usersa_info, which begins with struct xfrm_selector.
const (
	selIfindex = 48
	saID       = 56
	saSPI      = 72
	saProto    = 76
	saSrc      = 80
	saLimits   = 96
	saCurrent  = 160
	saSeq      = 204
	saReqid    = 208
	saFamily   = 212
	saMode     = 214
	saWindow   = 215
	saFlags    = 216
	maxESNBits = 4096 // XFRMA_REPLAY_ESN_MAX
)

// Offsets in struct xfrm_userpolicy_info.
const (
	polLimits   = 56
	polCurrent  = 120
	polPriority = 152
	polIndex    = 156
	polDir      = 160
	polAction   = 161
	polFlags    = 162
	polShare    = 163
	// dir values from 3 on in a dump are per-socket policies.
	polSocket  = 3
	polTypeSub = 1
)

// Multicast groups, enum xfrm_nlgroups.
const (
	groupExpire  = 2
	groupSA      = 3
	groupPolicy  = 4
	groupMigrate = 7
	groupMapping = 8
)

// XFRM structures are in the machine's byte order, but for what the network
// sees (addresses, SPIs, ports).
var (
	native  = binary.NativeEndian
	network = binary.BigEndian
)
