package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// freezer keeps what a frozen carpd leaves behind in a file, for the next
// process and for `carpd cleanup`. It does not outlive a boot.
type freezer struct{ path string }

// frozen is one group's entry. From and Until are readings of CLOCK_BOOTTIME;
// that of another boot lies outside, and should it not, the fence that is set at
// boot still counts.
type frozen struct {
	Term  uint64        `json:"term"`
	From  time.Duration `json:"from_ns"`
	Until time.Duration `json:"until_ns"`
}

func openFreezer(stateDir string) *freezer { return &freezer{filepath.Join(stateDir, "frozen")} }

// Frozen returns what was left behind, 0 if nothing.
func (f *freezer) Frozen(group string) (term uint64, until time.Duration) {
	all, err := f.read()
	x, ok := all[group]
	if err != nil || !ok || bootTime() < x.From {
		return 0, 0
	}
	return x.Term, x.Until
}

// Freeze writes down what is about to be left behind.
func (f *freezer) Freeze(group string, term uint64, until time.Duration) error {
	all, err := f.read()
	if err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	all[group] = frozen{term, bootTime(), until}
	return f.write(all)
}

// Thaw forgets it.
func (f *freezer) Thaw(group string) error {
	all, err := f.read()
	if err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	if _, ok := all[group]; !ok {
		return nil
	}
	delete(all, group)
	return f.write(all)
}

func (f *freezer) read() (map[string]frozen, error) {
	all := map[string]frozen{}
	b, err := os.ReadFile(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return all, nil
	case err != nil:
		return nil, err
	}
	if json.Unmarshal(b, &all) != nil || all == nil {
		return map[string]frozen{}, nil // torn by a crash: nothing can be relied on
	}
	return all, nil
}

func (f *freezer) write(all map[string]frozen) error {
	if len(all) == 0 {
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget what was frozen: %w", err)
		}
		return nil
	}
	b, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(f.path+".new", append(b, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(f.path+".new", f.path)
	}
	if err != nil {
		return fmt.Errorf("write down what is frozen: %w", err)
	}
	return nil
}

func bootTime() time.Duration {
	var ts unix.Timespec
	// Fails only for a clock that does not exist (Linux 2.6.39 has it).
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}
