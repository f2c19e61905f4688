package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	envMachines = "HARNESS_MACHINES" // on the host: what Boot needs
	envAgent    = "HARNESS_AGENT"    // in a machine: its name
	agentLine   = "/dev/ttyS3"
)

// MainMachines is the body of a TestMain whose tests boot machines of their own
// with [Boot]. Tests run natively and need no privilege. In each machine the
// same binary is the agent: it serves what services returns, by net/rpc, to
// [Machine.Call].
//
// All machines of one run are side by side; runs take turns with everything
// else that uses the harness.
func MainMachines(m interface{ Run() int }, services func() ([]any, error), opts ...Option) {
	if code, done := asGuest(); done {
		os.Exit(code)
	}
	run := m.Run
	if os.Getenv(envAgent) != "" {
		run = func() int { return serveAgent(services) }
	} else if !listsOnly(os.Args[1:]) {
		var c config
		for _, o := range opts {
			o(&c)
		}
		run = func() int { return runMachines(m.Run, &c) }
	}
	os.Exit(run())
}

// runMachines prepares for [Boot], and runs the tests.
func runMachines(run func() int, c *config) int {
	code, err := func() (int, error) {
		uml, err := exec.LookPath(umlProgram)
		if err != nil {
			return 0, fmt.Errorf("%s is not installed: install Debian's package %s (apt-get install %s, or make deps)",
				umlProgram, umlPackage, umlPackage)
		}
		h, err := newHost(c)
		if err != nil {
			return 0, err
		}
		defer h.close()
		bin, err := h.guestBinary()
		if err != nil {
			return 0, err
		}
		env, err := h.umlEnv()
		if err != nil {
			return 0, err
		}
		b, err := json.Marshal(machines{Dir: h.dir, Binary: bin, UML: uml, Env: env})
		if err != nil {
			return 0, err
		}
		if err := errors.Join(h.setNative(), os.Setenv(envMachines, string(b))); err != nil {
			return 0, err
		}
		unlock, err := h.lock()
		if err != nil {
			return 0, err
		}
		defer unlock()
		fmt.Fprintln(os.Stderr, "harness: several guests of user-mode-linux, one for each machine")
		return run(), nil
	}()
	if err != nil {
		fmt.Fprintf(os.Stderr, "harness: %v\n", err)
		return 1
	}
	return code
}

// serveAgent serves calls until the line closes, which the power does.
func serveAgent(services func() ([]any, error)) int {
	err := func() error {
		if err := unix.Sethostname([]byte(os.Getenv(envAgent))); err != nil {
			return fmt.Errorf("set the host's name: %w", err)
		}
		list, err := services()
		if err != nil {
			return err
		}
		srv := rpc.NewServer()
		for _, s := range append(list, Agent{}) {
			if err := srv.Register(s); err != nil {
				return fmt.Errorf("offer a service: %w", err)
			}
		}
		l, err := openLine(agentLine)
		if err != nil {
			return err
		}
		if _, err := l.Write([]byte{0}); err != nil { // ready
			return fmt.Errorf("write to %s: %w", agentLine, err)
		}
		srv.ServeCodec(newAgentCodec(l, guestRW))
		return nil
	}()
	if err != nil {
		fmt.Fprintf(os.Stderr, "harness: agent: %v\n", err)
		return 1
	}
	return 0
}

// Agent is the service that every machine has.
type Agent struct{}

// Nothing does nothing: see [Machine.Call].
func (Agent) Nothing(_ struct{}, _ *struct{}) error { return nil }

// Command is a program to run in a machine.
type Command struct {
	Args  []string
	Stdin string
}

// Run runs a program and answers with what it printed; one that fails is an error
// that has it.
func (Agent) Run(c Command, out *string) error {
	if len(c.Args) == 0 {
		return errors.New("run a program: no name")
	}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Stdin = strings.NewReader(c.Stdin)
	b, err := cmd.CombinedOutput()
	*out = string(b)
	if err != nil {
		return fmt.Errorf("run %v: %w: %s", c.Args, err, b)
	}
	return nil
}

// ReadFile answers with the contents of a file.
func (Agent) ReadFile(path string, b *[]byte) (err error) {
	*b, err = os.ReadFile(path)
	return err
}
