package nodes

import (
	"testing"

	"sasyncd/tests/harness"
	"sasyncd/tests/scenario"
)

func TestMain(m *testing.M) {
	harness.MainMachines(m, services, scenario.Options()...)
}

// services are what every machine can be; which one it becomes, the first call
// decides.
func services() ([]any, error) {
	g := newGuest()
	return []any{&Gateway{g: g}, &World{g: g}}, nil
}
