// Package api is how carpd and its clients talk: one JSON object per line, in
// both directions, on a unix stream socket.
//
// A client sends requests, each with an id of its choice, and gets one reply
// per request:
//
//	{"id":1,"verb":"hello","name":"sasyncd","prepare":true}
//	{"id":1}
//	{"id":2,"verb":"subscribe","instances":["carp1"]}
//	{"event":"state","seq":1,"group":"ipsec","snapshot":true,"state":{...}}
//	{"id":2}
//	{"id":3,"verb":"resign","group":"nosuch"}
//	{"id":3,"error":"no such group: nosuch"}
//
// After subscribe the server sends one state event per group as a snapshot,
// then the reply, and from then on events in order; seq counts per connection
// without gaps. Of the events peer, contested, stall and fitness only the latest
// of its group and instance waits for a client that reads slowly. A client that
// does not read is cut off and finds everything in the snapshot of its next
// connection; one that has said hello with a name, and may change things, only
// when 1024 other messages wait for it.
//
// With prepare set, a client takes part in changes of role: it gets prepare
// events and answers each with a prepared request as soon as it may go on. A
// prepare to master can be followed by cancel instead of a state event. The one
// that has sent takeover is prepared by that: its answer is not waited for.
//
// Requests that change something are for root and the users of the daemons
// only, by the credentials of the socket; everybody who can open the socket may
// read. Times are ages or durations, never dates.
package api

// Verbs of requests.
const (
	VerbHello     = "hello"     // Name, Version, Prepare; first request of a daemon
	VerbSubscribe = "subscribe" // Groups, Instances; neither: all
	VerbStatus    = "status"    // reply carries Groups
	VerbPrepared  = "prepared"  // Group, Term
	VerbReady     = "ready"     // Group, Ready, Term
	VerbTerm      = "term"      // Group, Term: one seen elsewhere
	VerbDemote    = "demote"    // Group, Demotion
	VerbUndemote  = "undemote"  // Group, Demotion.ID; empty: all but that of the start
	VerbResign    = "resign"    // Group, Reason, HoldMS
	VerbTakeover  = "takeover"  // Group, Term: the master of that term has fenced itself for us, SilentMS ago if not 0
	// Group, HoldMS, Reason: do not take over for so long, at most until the connection ends; 0: again
	VerbHoldBack = "holdback"
	VerbAnnounce = "announce" // Group; empty: all that are master
	VerbFreeze   = "freeze"   // Group, empty: all; HoldMS: a restart within it changes nothing
	VerbReload   = "reload"   // read the configuration again, all or nothing
)

// Kinds of events.
const (
	EventState     = "state"     // State, Old, Reason, Term; Fitness, with a snapshot
	EventPrepare   = "prepare"   // To, Term, ForMS, Reason
	EventCancel    = "cancel"    // Term, Reason
	EventContested = "contested" // Peer; ForMS 0 at the beginning, else at the end
	EventStall     = "stall"     // ForMS
	EventPeer      = "peer"      // Instance, Peer: another master is heard
	EventFitness   = "fitness"   // Fitness: it has changed
	EventFreeze    = "freeze"    // ForMS: the connection may end, the mastership goes on so long

	// Made by the client itself.
	EventConnected    = "connected"    // subscribed; the snapshot follows
	EventDisconnected = "disconnected" // Reason
)

// readOnly lists the verbs that anybody may use.
func readOnly(verb string) bool {
	switch verb {
	case VerbHello, VerbSubscribe, VerbStatus:
		return true
	}
	return false
}
