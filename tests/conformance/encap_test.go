package conformance

import (
	"testing"

	"sasyncd/kernel/kerneltest"
)

func TestEncapPort(t *testing.T) {
	enterNS(t)
	kerneltest.EncapPort(t)
}
