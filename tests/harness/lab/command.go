package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"sasyncd/tests/harness"
)

// commandTimeout ends a helper command that hangs. It is generous: guests are slow.
const commandTimeout = 30 * time.Second

// Start starts cmd inside the node; it is killed when this process ends.
func (nd *Node) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return nd.onStarter(cmd.Start)
}

// Try runs a command line, split at blanks, and returns its standard output.
// The error carries the command and its standard error.
func (nd *Node) Try(line string) (string, error) {
	return nd.tryWith(line, "")
}

func (nd *Node) tryWith(line, stdin string) (string, error) {
	nd.net.secrets.learn("a command", line+"\n"+stdin)
	args := strings.Fields(line)
	// Not the test's context: that is done when cleanups, which use this, run.
	ctx, cancel := context.WithTimeout(context.Background(), harness.Scaled(commandTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	err := nd.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("%s: %s: %w: %s", nd.Name, line, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Run runs a command line, split at blanks, and returns its standard output;
// the test ends when it fails.
func (nd *Node) Run(line string) string {
	nd.t.Helper()
	out, err := nd.Try(line)
	if err != nil {
		nd.t.Fatalf("%v", err)
	}
	return out
}

// IP runs all lines in one "ip -batch", which a guest does much faster than
// one process each; the test ends when one fails.
func (nd *Node) IP(lines ...string) {
	nd.t.Helper()
	if out, err := nd.tryWith("ip -batch -", strings.Join(lines, "\n")+"\n"); err != nil {
		nd.t.Fatalf("%v\n%s\nof:\n%s", err, out, strings.Join(lines, "\n"))
	}
}
