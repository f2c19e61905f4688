// Package scenario is a redundant pair of gateways with real daemons, and what
// happens to it: power cuts, returns, hand-overs, all under traffic.
//
// The demo prints what [Run] reports, the drills assert it. [Pair] is what both
// stand on: the standard lab, static tunnels that only gw1 is given, a carpd
// and a sasyncd on each gateway, and questions to them.
package scenario
