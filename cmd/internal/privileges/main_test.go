package privileges

import (
	"os"
	"testing"

	"sasyncd/kernel/trusted/trustedtest"
)

// TestMain has the tests use directories in which files are trusted.
func TestMain(m *testing.M) { os.Exit(trustedtest.Main(m)) }
