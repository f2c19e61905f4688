// Package guest runs the situations of package check that need ESP, in the guest of
// package harness or where there is ESP: make drill-check.
package guest
