// Package setup is `sasyncctl init`: it configures and starts a new pair of gateways.
//
// An Input is what an operator decides. New makes a Plan of it: the files of both
// gateways and the steps, in order. That is pure. A Setup carries a plan out by a
// Runner for each gateway, which runs shell commands.
//
// Nothing is overwritten. The files of both gateways are looked at before anything is
// changed, and each command that writes one fails where it exists. Only a file that is
// still as a package has installed it, comments without a statement, gives way: it is
// renamed. Secrets are in no command line and in no output; commands read them from
// standard input.
package setup
