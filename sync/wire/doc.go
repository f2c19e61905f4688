// Package wire is the codec of the replication protocol: what two sasyncd
// processes say to each other inside the authenticated, encrypted connection of
// sync/channel. It is pure: no I/O but Read, no clock, no goroutine. This
// comment is the specification of the protocol, version 1; testdata holds a
// vector of each message with a comment per field.
//
// # Notation
//
// Numbers u8, u16, u32, u64 are unsigned, big-endian. uvarint is unsigned
// LEB128 in its shortest form, at most 64 bits. bool is a u8, 0 or 1. name is a
// u8 length and that many bytes of printable UTF-8. text is the same with a u16
// length. id is 16 bytes. addr is a u8 length of 0 (none), 4 or 16 and the
// address. list(T) is a uvarint count and the items. An encoding is canonical:
// a value has one form, and others are refused.
//
// # Frame
//
//	u32 length of the body
//	u8  type
//	body
//
// A term is at most 2^62, or the frame does not parse. A frame is at most 1 MiB,
// header included; MaxBody gives the bound of each
// type. A receiver closes the connection on a frame that is too long, that does
// not parse or whose type it does not know, except that types 128 and above may
// be ignored. Bytes behind the fields that a receiver knows are ignored in a
// body and in a group: later versions may append fields there.
//
// # Connections
//
// Both nodes listen and both dial. The dialler sends Hello; the listener judges
// it and answers Hello or Bye; with that the connection is up on both sides. A
// node sends Hello on one dialled connection to a peer at a time. It refuses
// itself (same node, same nonce, code 3), another node with its own id (code 4),
// and a connection that loses against one which is up or on which it has itself
// sent Hello (code 5): the greater generation wins, else the one dialled by the
// lower node id, else the newer. The generation is one more than that of the last
// connection that was up between the two processes. A connection from another
// process of the same node always wins.
//
// A connection that wins ends the session on the older one, unless both Hellos
// say move: then the session goes on. Each side ends what it sends on the old
// connection with Bye, code 6, and sends what follows on the new one; each side
// reads the old one up to that Bye before it reads on in the new one.
//
// A node sends Ping every second, answers with Pong, and takes a connection for
// dead on which it received nothing for 3 s.
//
// # Versions
//
// The first message in each direction is Hello, with the range of versions
// that the sender speaks; both use the highest that is in both ranges. If there
// is none, each sends Bye with code 2 and words, and closes. A node speaks its
// own version and the one before. Additions that an old receiver cannot ignore
// are sent only to those whose Hello carries the capability bit for it:
//
//	bit 0  messages 129 and 130
//	bit 1  messages 131 and 132
//	bit 2  message 133
//
// # Messages
//
//	1 Hello          u16 min, u16 max, u64 capabilities, id node, id boot,
//	                 u64 process nonce, name kernel release, bool big-endian,
//	                 name architecture, u64 clock (seconds since 1970, two's
//	                 complement, for diagnosis only), u32 generation, bool move,
//	                 u16 number of groups, group...
//	2 State          group
//	3 Request        name group, position
//	4 Resume         u32 stream handle, stream, u64 seq
//	5 SnapBegin      u32 stream handle, stream, u64 seq, u32 SAs, u32 policies
//	6 SnapEnd        u32 stream handle, u64 seq, u32 SAs, u32 policies
//	7 Batch          u32 stream handle, u64 first, list(record)
//	8 Counters       u32 stream handle, u64 epoch, uvarint age in µs, list(counter)
//	9 Ack            u32 stream handle, u64 seq, u64 epoch, bool snapshot done,
//	                 u32 installed
//	10 Ping          u64 token
//	11 Pong          u64 token
//	12 Bye           u16 code, text (at most 1 KiB)
//	13 Handover      name group, u64 term
//	14 Maxima        stream, bool last, list(maximum)
//	15 Digest        u32 stream handle, u64 seq, list(u64 bucket)
//	16 BucketRequest u32 stream handle, u32 number of buckets, list(u16 bucket)
//	17 BucketItems   u32 stream handle, u64 seq, u32 number of buckets,
//	                 u16 bucket, bool more, list(16 bytes key digest), list(record)
//	128 Gossip       all of the body is the payload
//	129 Compare      u32 token, name group, id salt, u32 number of buckets,
//	                 list(u16 bucket)
//	130 Inventory    u32 token, bool last, text error, list(u64 sum),
//	                 list(record)
//	131 Succession   u32 token, name group, u64 term, id node, u32 milliseconds
//	132 Consent      u32 token, bool yes, text reason, text remedy
//	133 Fitness      name group, u16 demotion (at most 255), bool willing
//	135 Report       u32 length, rest json
//	136 Outage       name group, u64 term, u64 gap in µs, bool over
//
//	group     u16 length of the rest, name, u16 number of addresses, addr...,
//	          u8 role (0 INIT, 1 BACKUP, 2 MASTER), u64 term, bool in sync,
//	          position, text reason, u64 received packets (absent: 0)
//	stream    name group, u64 term, id node, u64 process nonce
//	position  stream, u64 seq, bool complete
//	maximum   u8 length of the identity, identity of an SA, uvarint outbound
//	          sequence, uvarint inbound sequence, uvarint bytes, uvarint packets
//
// # A stream
//
// A stream is the ordered sequence of changes of one group by one process of
// its master under one term. Its numbers start at 1. A standby sends Request
// with what it has. If that is of the same stream, complete, and not older than
// the master's journal, the master answers Resume with the same position and
// goes on behind it; else SnapBegin, then Batches whose records are the whole
// state (policies first, then SAs with their counters), with numbered changes
// among them, then SnapEnd: what the standby holds of the group and was not put
// since SnapBegin goes. Nothing is removed before. The handle in Resume or
// SnapBegin names the stream in all later messages of either direction on that
// connection; a new one replaces it. Who is master is decided by (term, node),
// the greater wins.
//
// A receiver that is shown a number beyond the next one, by a Batch, a SnapEnd or
// a Digest, has missed something. It takes nothing more of the stream and sends
// Request again, on the same connection.
//
// Counters run beside: the newest value counts, messages may be left out by a
// sender whose receiver is slow, but then their entries are part of a later
// one. The last message of an epoch holds fewer than 1,000 entries, and none
// holds more. Ack says what the standby's kernel holds.
//
// Handover is the last word of a master that gives up in an orderly way, behind
// its last changes and counters. Maxima is exchanged by nodes that were both
// master; afterwards both hold the greater values. It goes before a Request, whose
// answer, Resume or SnapBegin, says that it has been heard; until there is one it
// goes before each Request. Under the id of the receiver's own stream a standby
// tells which of its kernel's counters stand further ahead than the master knows.
//
// # Who is demoted
//
// Fitness tells how much a node's election holds against it, as a session comes
// up, once the node's own election has said it, and when it changes. A master that
// is demoted hands over to a standby that could take over and is less demoted. One
// that has not told yet counts as one that is demoted as much as possible.
//
// # For how long nobody was master
//
// Outage is sent before Handover, with the time since the sender was fenced, and by
// a new master before the State that says so, with the gap that it has measured,
// so that both ends of a hand-over show the same figure. It is also sent as soon as the
// fence is set: a standby then puts off its audits, until the final counters are there.
//
// # Would a failover work?
//
// Report is what a node knows of itself that decides whether it could take over,
// or be taken over from: as a session comes up, when it changes, and every 5 s. The
// docs of cmd/internal/judge have its fields. Nothing else depends on it.
//
// # What operators ask for
//
// Compare asks for what a node's kernel holds of a group, whatever its role. The
// answer to one without buckets is an Inventory with the sums of all buckets, to
// one with buckets the records that put each item in them, in one or more
// Inventories with the token of the question. Sums and records are of items
// without limits and direction, which differ between master and standby, and
// without counters; in the place of a key is the start, 8 bytes, of HMAC-SHA256
// with the salt as key over the algorithm's name, a zero byte and the key. A node
// answers one question of a peer at a time.
//
// A master that is to hand over to a certain node sends Succession to all members
// of the group, before it fences itself. That node answers whether it could take
// over; each other one keeps from taking over, and from preempting its successor,
// for the time given, and says so. Only if all consent does the master hand over.
// Once it knows the result it sends Succession with no time, which ends the wait
// and is not answered.
//
// # Record
//
//	u8 kind, u8 flags (1: numbered), u16 length of the rest, uvarint age in µs,
//	then by kind:
//	1 put SA         uvarint handle, SA
//	2 delete SA      uvarint handle, identity of the SA
//	3 put policy     policy
//	4 delete policy  identity of the policy
//	5 flush SAs      u8 protocol, 0 is all
//	6 flush policies bool sub
//
// A record is at most 16 KiB, a message carries at most 8192. SA and policy are
// sequences of fields: u8 type, u16 length, value. Types ascend; only those
// marked * repeat. Fields that are zero are left out, and nothing in a record
// depends on the machine: no index, no date, no byte order, except the values of
// attributes that the sender did not know. An unknown type of 128 or above is
// skipped; an unknown type below cannot be, as the item would be installed
// without something that it needs. Types below 64 are configuration, others
// state.
//
//	SA  1 identity      u32 SPI, u8 protocol, destination (4 or 16 bytes)
//	    2 mark          u32 value, u32 mask
//	    3 source        4 or 16 bytes
//	    4 selector      see below
//	    5 mode          u8 (XFRM_MODE_*), absent: transport
//	    6 reqid         u32
//	    7 flags         u8 (XFRM_STATE_*)
//	    8 extra flags   u32 (XFRMA_SA_EXTRA_FLAGS)
//	    9 auth, 10 crypt, 11 aead, 12 comp
//	                    u32 truncated length in bits, u8 length and kernel's name,
//	                    key to the end
//	    13 encapsulation u16 type, u16 source port, u16 destination port,
//	                    original address to the end (0, 4 or 16 bytes)
//	    14 output mark  u32 value, u32 mask
//	    15 interface id u32
//	    16 TFC padding  u32
//	    17 direction as the kernel knows it, u8 (1 in, 2 out)
//	    18 per-CPU number u32
//	    19 mapping timer u32 seconds
//	    20 NAT keepalive u32 seconds
//	    21 replay window u32 packets
//	    22 bitmap length u32 words; absent: legacy window
//	    23 limits       see below
//	    24* attribute   u16 type, value as it is; ascending by attribute type
//	    64 direction as the master judges it, u8 (1 in, 2 out)
//	    65 counters     uvarint outbound sequence, inbound sequence, bytes, packets
//	    66 bitmap       u32 words; absent: unknown
//	    67 ages         uvarint seconds since added, and, if ever used, uvarint
//	                    seconds since first use
//
//	policy
//	    1 identity      u8 direction (1 in, 2 out, 3 fwd), bool sub, u32 interface id
//	    2 mark          u32 value, u32 mask
//	    3 selector      see below
//	    4 security context, as it is
//	    5 priority      u32
//	    6 action        u8 (1 block), absent: allow
//	    7 flags         u8
//	    8 share         u8
//	    9 limits        see below
//	    10* template    u16 family, u8 protocol, u8 mode, u8 share, bool optional,
//	                    u32 SPI, u32 reqid, u32 masks of auth, cipher and
//	                    compression algorithms, addr destination, addr source
//	    24* attribute   u16 type, value as it is; ascending by attribute type
//	    64 use          uvarint bytes, packets, seconds since added, and, if ever
//	                    used, uvarint seconds since first use
//
//	selector  u16 family (0 any, 2 IPv4, 10 IPv6), u8 source and destination
//	          prefix length, u8 protocol, u16 source port, mask, destination port,
//	          mask, u32 user, source and destination each as u8 length and bytes
//	          without trailing zeros, interface name to the end
//	limits    uvarint: soft bytes + 1, hard bytes + 1, soft packets + 1, hard
//	          packets + 1 (modulo 2^64, so that 0 is no limit), soft and hard
//	          seconds since added, soft and hard seconds since first use.
//	          Absent: no limit at all
//
// The identity of an SA is fields 1 and 2, that of a policy fields 1 to 4.
//
// # Counters
//
// Entries ascend by handle, and hold absolute values, so that a message needs
// no other to be understood. Each is
//
//	uvarint (handle - previous handle) * 4 + bits; the first counts from 0
//	uvarint packets
//	uvarint bytes
//	uvarint zigzag(outbound sequence - packets)   if bit 0, the sequence is not 0
//	uvarint zigzag(inbound sequence - packets)    if bit 1, the sequence is not 0
//
// with zigzag(0, -1, 1, -2...) = 0, 1, 2, 3... modulo 2^64. An SA works in one
// direction, and its sequence number runs with its packet count at a distance
// that failovers set, so an entry takes at most 1 or 2 + 5 + 7 + 5 bytes up to 34
// thousand million packets, 562 TB and a distance of 2^34, and 12 to 15 usually.
//
// # Digests
//
// The digest of an SA is the first 16 bytes of SHA-256 over "sasyncd sa", a zero
// byte and its configuration fields (types below 64) in their canonical form; of
// a policy with "sasyncd policy"; of identities with "sasyncd sa identity" and
// "sasyncd policy identity". With n buckets an item is in the bucket (first four
// bytes of the digest of its identity) modulo n; the value of a bucket is the sum
// modulo 2^64 of the first eight bytes of the digests of its items. The digest is
// over what the master publishes, soft limits included.
package wire
