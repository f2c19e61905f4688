// Package replication has sasyncd, the real program, replicate between real
// kernels: two or more gateways, each a network namespace, with roles locked
// unless the role matters.
package replication

import (
	"testing"

	"sasyncd/tests/cluster"
	"sasyncd/tests/harness"
	"sasyncd/tests/scenario"
)

func TestMain(m *testing.M) {
	harness.Main(m, append(cluster.Options(), scenario.Options()...)...)
}
