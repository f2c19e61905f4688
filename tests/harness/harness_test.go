package harness_test

import (
	"testing"

	"sasyncd/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestHello(t *testing.T) { t.Log("hello") }
