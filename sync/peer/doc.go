// Package peer keeps one session with every other node of a configuration: it
// dials all of a peer's addresses, accepts what the peer dials, agrees with it on
// the one connection that stays, notices when it goes silent, replaces it before
// it is too old, and queues what is to be sent within bounds.
//
// The rules of which connection wins are in the specification of package wire.
// They live in machine, which is pure; Manager and its goroutines do what it
// says. A Session is one incarnation of contact: it is born with an Up event and
// ends with a Down event, and everything sent on it arrives in order or the
// session ends. A session may move to another connection meanwhile (renewal, a
// removed key); its user does not notice.
//
// Goroutines: one per peer that owns its machine and never blocks, and per
// connection one that reads and one that writes. A consumer that does not take
// its events holds back the network, not the others: keepalives go on, and
// silence is not counted against a peer that is not listened to.
package peer
