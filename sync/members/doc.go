// Package members tells which other members of the cluster are alive, also
// those that this node has no session with, by hashicorp/memberlist's gossip.
//
// It has no port and no cryptography of its own: gossip travels as Gossip
// messages over the sessions that exist anyway, so whoever takes part holds
// the shared key. A member that this node cannot reach directly is reached
// through one that can; one hop is enough, as every member knows its
// neighbours.
//
// Members without a session between them tell each other every second, by way of
// a member that has one with both, what they are in their groups: a [Sighting].
//
// All of it is hints: whoever holds the key can say what it likes, and a member
// that passes something on can change it. Operators see them. The engine takes
// one thing from them, that a node which is not in sync waits longer before it
// takes over alone, for a bounded time (engine.Config.Hints). Roles, terms and
// tables come from the election and from the sessions alone.
package members
