// Package channel is the authenticated, encrypted connection between two nodes
// that hold the same shared key.
//
// # Protocol
//
//  1. The listener sends 32 random bytes, the challenge, and nothing else.
//  2. The dialler answers with 32 bytes: HMAC-SHA256, under a key derived from
//     the shared key, over a label, the challenge, and the address and port of
//     both ends as the sockets show them. The listener tries each of its keys.
//     Wrong or later than 2 s: it closes, without a further byte and without
//     any public-key operation.
//  3. TLS 1.3 of the standard library on the same connection. Each side
//     presents an Ed25519 key derived from the shared key whose MAC fitted and
//     accepts only the one derived for the other role. Key exchange is the
//     post-quantum hybrid X25519MLKEM768; there are no tickets, so no resumption.
//  4. Frames of package wire. A connection counts as up when the first frame of
//     the other side was read: a dialler's TLS handshake ends before the
//     listener has judged it.
//
// # What it withstands
//
// A stranger learns that something listens and sends random bytes. It can
// neither make the listener do public-key work nor keep more than a few
// connections for more than 2 s each. A recorded answer is worthless, as the
// challenge is fresh; an answer relayed by a host in the middle is too, as it is
// bound to the addresses. For the same reason there must be no address
// translation between the nodes. Nothing depends on a clock. The roles have
// separate keys, so nothing that a node said can be reflected to it; that a node
// reached itself shows in the Hello of package wire only.
//
// Whoever holds the shared key is a full member. A recorded answer lets guesses
// at a key be tested, which is why keys given as characters go through
// argon2id; keys given in hexadecimal are taken as random.
//
// # Rotation
//
// A node may have several keys: the first is used to dial, the others after a
// refusal, all are accepted. There is no key identifier on the wire, which
// would link networks. Adding the new key second everywhere, then swapping, then
// removing the old one never loses a connection.
package channel
