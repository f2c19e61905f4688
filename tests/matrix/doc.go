// Package matrix does everything bad to a pair of gateways at every moment, and
// a thousand failovers in a row. What comes of it is written to
// docs/reliability.md, never by hand.
package matrix
