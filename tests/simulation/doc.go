// Package simulation runs whole gateways (engine, election machine, kernel) in
// virtual time through thousands of seeded histories of crashes, power cuts,
// cut links and hand-overs under traffic, and checks what must always hold.
//
// The engine and the election machine are the real ones; the kernel is the
// fake of kernel/kerneltest, which has to pass the same behaviour table as the
// real one. Adverts, sessions and the fence are modelled.
package simulation
