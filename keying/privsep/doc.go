// Package privsep divides sasyncd in two: a process that talks to the network
// and is not root, and a small one that is root and does what keying.Privileged
// lists. Both are joined by a unix socket that keeps packets apart
// (SOCK_SEQPACKET).
//
//	network-facing process                     privileged process
//	keying.Driver ──► Client ── Request ──► Server ──► keying.Local (root)
//	                         ◄── Reply ───     │
//	                  descriptors of files     └── Source: what sasyncd.conf,
//	                  and of connections           root's own file, allows
//
// Requests have fixed verbs, and name nothing but what the privileged process
// has read in the configuration itself: no path, program, signal or process
// number comes from the other side, except the path of a file to read, which
// must be one that the configuration names. Whoever takes over the
// network-facing process can have the configured IKE daemon killed, started and
// asked, and the configured hook run with plain text; not more.
//
// A packet that is none of ours ends the connection.
package privsep
