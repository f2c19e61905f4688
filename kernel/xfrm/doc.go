// Package xfrm is the XFRM subsystem of Linux over netlink: [Kernel] dumps, watches and
// changes SAs and policies, [BypassOps] keep a backup reachable, [EncapPort] lets ESP in
// UDP arrive. Package kerneltest has a fake with the same rules.
//
// # Copying SAs and policies
//
// The codec is our own because the netlink library's structures lose windows,
// 64-bit numbers and flags, and take short IPv6 prefixes for IPv4. What a
// kernel dumps is decoded into sadb types and encoded again such that another
// kernel dumps the same bytes, but for tags. Not copied are what only the
// kernel can know (statistics, time of last use) and hardware offload. Dates
// become ages and the other way round, by the clock of [Options]. Unknown
// attributes are carried as they are.
//
// A kernel ignores the types of attributes above its highest, in silence: an SA is
// installed without what it does not know. [Kernel.Features] says what it knows;
// sadb.Features.Fit makes an SA what such a kernel can hold.
//
// An SA with a direction (XFRMA_SA_DIR) may not have what belongs to the other one. The
// kernel refuses: outbound, a replay window, an inbound sequence number and a bitmap (an
// ESN SA has a bitmap of no words), a mapping timer, and the flags decap-dscp, wildrecv and
// icmp; inbound, an ESN SA's outbound number, a NAT keepalive, and the flags nopmtudisc,
// dont-encap-dscp and oseq-may-wrap. Keepalives need a direction and UDP, a number of a CPU
// needs a direction. XFRM_MSG_UPDSA finds only an SA of the direction that it names.
// XFRM_MSG_NEWAE takes no direction (verify_newsa_info, xfrm_state_update and
// xfrm_reject_unused_attr in net/xfrm; each tried on 6.12 and 7.2).
//
// A new SA's use and age are set by XFRMA_LTIME_VAL; among SAs that fit, the
// kernel sends on the one added last by that date, and among equal dates on
// the one installed last: install oldest first. Counters of an existing SA are
// written by XFRM_MSG_NEWAE, which never creates, does not object to counters
// that go down, and ignores replay state of the wrong kind in silence.
// XFRM_MSG_UPDSA changes lifetimes, NAT ports, output mark and if_id only, but
// the event that announces it shows the whole request: a dump tells the truth.
//
// What sasyncd installs is tagged: SAs by km.Seq ([IsOurs]), policies by their
// index ([IsOurPolicy], [IsBypass]).
//
// # Cryptography
//
// The kernel loads the module of an algorithm when the first SA needs it, which
// takes tens of milliseconds. A standby installs its master's SAs as they come,
// so at a takeover all of them are there; [WarmCrypto] spares the first SA of a
// node's life the wait. [EncapPort] lets ESP in UDP arrive without IKE daemon.
package xfrm
