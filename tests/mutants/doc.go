// Package mutants plants defects that the invariants forbid and shows that the
// simulation notices each: a test that cannot fail proves nothing.
package mutants
