// Package wire is the switch between machines that can really lose power: a few
// Ethernet LANs in one process, to which user-mode-linux guests are plugged by
// unix sockets (their vector transport "bess": one frame is one packet of a
// SOCK_SEQPACKET socket).
//
//	guest gw1  lan0 ══ socket ══ port ┐
//	guest gw2  lan0 ══ socket ══ port ┼ LAN "lan"     faults, counters and
//	guest net  lan0 ══ socket ══ port ┘               taps at every port
//
// [Core] is the switch without sockets, clock or goroutine: it learns addresses,
// floods, and applies the faults of each port and direction, chance among them
// by a seed. [Switch] is the runner around it.
package wire
