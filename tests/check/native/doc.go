// Package native runs the situations of package check that need no ESP on this
// machine's kernel, which needs root: a few in make test, all in make drill-check.
package native
