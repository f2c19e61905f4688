// Package ipsecconf reads and prints the part of OpenBSD's ipsec.conf(5) that
// needs no key exchange: `flow` rules, and `esp`, `ah` and `ipcomp` rules that
// make SAs with keys from the file. The grammar is that of ipsecctl(8)
// (sbin/ipsecctl/parse.y): macros, lists, include, keys inline or from files, one
// rule per line, and both directions of one rule.
//
// [Load] turns a file into what Linux's XFRM holds: SAs, and policies of the
// directions in, fwd and out. What Linux has no counterpart for is an error that
// says so. [Print] is the way back: what it prints of a set, Load reads as the
// same set.
//
// Everything here is pure: files come from a function, and nothing is installed.
package ipsecconf
