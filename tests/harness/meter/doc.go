// Package meter sends steady traffic between two nodes of a lab and says what
// became of it: what was lost, what came twice or out of order, and the longest
// silence with its moment.
//
// [Meter] runs flows of UDP at a fixed rate, [Transfer] one TCP connection that
// must survive whatever the test does to the network.
package meter
