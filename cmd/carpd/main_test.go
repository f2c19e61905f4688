package main

import (
	"os"
	"testing"

	"sasyncd/kernel/trusted/trustedtest"
	"sasyncd/tests/harness/lab"
)

// TestMain has the tests use directories in which files are trusted.
func TestMain(m *testing.M) {
	lab.Self(main) // as a daemon of the tests with two of them
	os.Exit(trustedtest.Main(m))
}
