package lab

import (
	"os"
	"os/exec"
)

// envSelf tells a test binary that it is to be the program that it tests.
const envSelf = "SASYNCD_TEST_SELF"

// Self runs the program of a test binary that [Node.Self] has started as such, and does
// not return then. Its call is the first thing that a TestMain does.
func Self(program func()) {
	if os.Getenv(envSelf) != "" { // it stays set, for a program that executes itself anew
		program()
		os.Exit(0)
	}
}

// Self starts the program whose tests these are in the node: the test binary itself, so
// that nothing has to be built. See the function [Self].
func (nd *Node) Self(name string, args ...string) *Daemon {
	nd.t.Helper()
	bin, err := os.Executable()
	if err != nil {
		nd.t.Fatalf("find own program: %v", err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), envSelf+"=1")
	return nd.Exec(name, cmd)
}
