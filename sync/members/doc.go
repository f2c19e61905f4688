// Package members tells which other members of the cluster are alive, also
// those that this node has no session with, by hashicorp/memberlist's gossip.
//
// It has no port and no cryptography of its own: gossip travels as Gossip
// messages over the sessions that exist anyway, so whoever takes part holds
// the shared key. A member that this node cannot reach directly is reached
// through one that can; one hop is enough, as every member knows its
// neighbours.
//
// What it knows are hints, for operators and for logs. Nothing of it reaches
// the engine: roles and terms come from the election and from the sessions
// alone.
package members
