// Package replica has the state of one group's replication, without I/O and without
// goroutines of its own.
//
// A Publisher is what a MASTER tells: its SAs and policies as one ordered stream of changes
// with a bounded journal, and its counters by number. A Follower is that stream to one
// member: what was sent, and what the member's kernel holds of it. A Receiver is what a
// standby wants and what its kernel has; it turns the difference into operations. Its
// Reception says whether a stream comes, and which. Holdback keeps deletions that would
// leave traffic uncovered. Jumps are the counters that another node's numbers ask of a
// MASTER.
//
// Publisher and Receiver go over very many items. They count these by their Pace, which may
// pause in between; what a method may not leave half done when it pauses its comment says.
// Whoever pauses sees to it that nothing else changes the same value meanwhile. Nothing
// here is safe for concurrent use.
package replica
