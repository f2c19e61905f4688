// Package keying switches the machine's IKE daemon between passive and active
// as the role of this gateway changes, with the semantics that OpenBSD's
// isakmpd has under -S: passive until master, and never a word to the peers
// that would make them give up their SAs.
//
//	engine ── Passive(term), Active(plan) ──► Runner ── Event ──► Machine (pure)
//	                                            │ ◄─── Action ───────┘
//	                                            ▼
//	                                          Driver: strongSwan, libreswan, OpenIKED, ...
//	                                            ▼
//	                                       Privileged: sockets, kill, start, hooks
//
// The SAs of the old master carry traffic without any help of the IKE daemon, so
// nothing here is on the path of a takeover. After it, every tunnel is
// negotiated afresh beside its replicated SAs, paced, and without
// INITIAL_CONTACT, which would make the remote drop the old SAs first.
package keying
