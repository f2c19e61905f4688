// Package check holds what "sasyncctl check" says against what then happens.
//
// The catalogue is a table of situations: faults and misconfigurations of two or
// three gateways, with what check must say. Each is set up with real daemons in
// network namespaces, check is asked on every member until its answer is steady,
// and then a failover is made: once planned, and once, in a lab of its own, by a
// power cut. What came of both is compared with the answer.
//
//   - Yes and a failover that does not work is a failure, always.
//   - No and failovers that both work is counted. The table must explain it, and
//     less than 5 % of the situations may be so.
//   - "Cannot tell" is neither.
//
// A failover works when, within [Budget], another gateway is the only MASTER, every
// virtual IP answers from where clients are, with that gateway's Ethernet address
// and no other, and traffic passes both ways in both address families; and when all
// that stays so for a while. With ESP, nothing may be sent twice, be refused for its
// sequence number, or leave in plaintext.
//
// Package native runs the situations that need no ESP on this machine's kernel,
// several side by side; package guest runs those that need ESP in the guest of
// package harness.
package check
