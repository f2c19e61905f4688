package harness_test

import (
	"testing"

	"sasyncd/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
