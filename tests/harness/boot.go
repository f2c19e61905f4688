package harness

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"path/filepath"
)

// MachineConfig says what to boot.
type MachineConfig struct {
	Name   string   // at most 15 bytes
	Ports  []string // unix sockets of a switch's ports: vec0, vec1, ... in the guest
	Memory int64    // bytes; 256 MiB if it is 0
	// Disk is a directory that outlives the power: the guest has it as [DiskDir].
	// What it has not synced is lost with the power, as from a disk.
	Disk string
	// Kernel is the program of another user-mode-linux than the installed one, and Modules the
	// directory of its modules, with a directory for its release. Empty: the installed one.
	Kernel, Modules string

	// Init, if it is set, is run as PID 1 in place of the agent, which is for
	// whoever brings a system of his own: such a machine cannot be called.
	Init string
	// Args are further kernel arguments; of two that contradict each other the
	// latter counts ("rw", "rootflags=/directory/of/another/root").
	Args []string
}

const machineMemory = 256 << 20

// DiskDir is where a machine sees MachineConfig.Disk.
const DiskDir = guestRW + "/disk"

// machines is what [MainMachines] prepares for [Boot] and hands to it by way of
// the environment.
type machines struct {
	Dir    string // of the run
	Binary string // that guests run
	UML    string
	Env    []string // that user-mode-linux needs
}

// Boot powers a machine on and waits until its agent answers. It must be called
// below [MainMachines]. The machine dies with this process at the latest.
func Boot(c MachineConfig) (*Machine, error) {
	var s machines
	if err := json.Unmarshal([]byte(os.Getenv(envMachines)), &s); err != nil {
		return nil, fmt.Errorf("boot %s: not below harness.MainMachines: %w", c.Name, err)
	}
	m, err := s.boot(c)
	if err != nil {
		return nil, fmt.Errorf("boot %s: %w", c.Name, err)
	}
	return m, nil
}

func (s *machines) boot(c MachineConfig) (*Machine, error) {
	dir, err := os.MkdirTemp(s.Dir, c.Name+"-")
	if err != nil {
		return nil, err
	}
	if c.Memory == 0 {
		c.Memory = machineMemory
	}
	args := umlArgs(filepath.Join(dir, "uml"), c.Memory)
	for i, p := range c.Ports {
		// A leftover of a dead guest's would be in the way of the bind; the
		// directory is new, so there is none.
		args = append(args, fmt.Sprintf("vec%d:transport=bess,mac=%v,dst=%s,src=%s", i, cardAddr(c.Name, i), p,
			filepath.Join(dir, fmt.Sprintf("v%d", i))))
	}
	if err := os.Mkdir(filepath.Join(dir, "uml"), 0o700); err != nil {
		return nil, err
	}
	if c.Init == "" {
		orders, err := s.orders(dir, &c)
		if err != nil {
			return nil, err
		}
		args = append(args, orders...)
	} else {
		args = append(args, "init="+c.Init)
	}
	m := &Machine{Name: c.Name, kernel: cmp.Or(c.Kernel, s.UML), Console: filepath.Join(dir, "console"),
		rw: filepath.Join(dir, "rw"), ended: make(chan struct{})}
	if err := m.start(s, append(args, c.Args...), c.Init == ""); err != nil {
		m.Cut()
		return nil, fmt.Errorf("%w; its console said:\n%s", err, m.ConsoleEnd())
	}
	return m, nil
}

// cardAddr is the Ethernet address of a machine's card: always the same, as of
// hardware.
func cardAddr(machine string, card int) net.HardwareAddr {
	h := fnv.New32a()
	h.Write([]byte(machine)) // never fails
	return append(net.HardwareAddr{2, byte(card)}, h.Sum(nil)...)
}

// orders writes down what the guest's init has to do, and returns the kernel
// arguments that lead to it.
func (s *machines) orders(dir string, c *MachineConfig) ([]string, error) {
	rw := filepath.Join(dir, "rw")
	if err := os.Mkdir(rw, 0o755); err != nil {
		return nil, err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	init := filepath.Join(dir, "init")
	if err := os.Symlink(s.Binary, init); err != nil {
		return nil, err
	}
	o := spec{
		Binary: s.Binary, Args: []string{s.Binary}, Dir: cwd, RW: rw, Disk: c.Disk,
		Files:   hostFiles{Kind: "hostfs", Modules: cmp.Or(c.Modules, umlModules)},
		Visible: []string{filepath.Dir(s.Binary), os.Getenv(envBin), cwd},
		Env: []string{
			"PATH=" + os.Getenv("PATH"), "HOME=/root", "GODEBUG=multipathtcp=0", envAgent + "=" + c.Name,
			envGuest + "=" + guestRW, envBin + "=" + os.Getenv(envBin), envKeep + "=" + filepath.Join(guestRW,
				"artifacts"),
		},
	}
	b, err := json.Marshal(&o)
	if err != nil {
		return nil, err
	}
	at := filepath.Join(dir, "spec.json")
	return []string{"init=" + init, envSpec + "=" + at}, os.WriteFile(at, b, 0o600)
}
