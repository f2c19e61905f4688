// Package kerneltest has a fake of package kernel with the rules of the real
// XFRM tables, and one table of behaviours that both must show.
//
// The fake is for tests of what stands on the kernel: it needs no privilege and
// works in virtual time (testing/synctest): nothing blocks while a mutex is
// held, and timers are those of package time. It prints its tables as sorted
// text in the manner of `ip xfrm`, with digests for keys.
//
// What it does not model: routing, marks on packets, which SA a policy picks.
// Traffic is what a test says it is ([Kernel.Send], [Kernel.Receive]).
package kerneltest
