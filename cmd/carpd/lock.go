package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// lockMemory keeps the program in memory, so that a takeover never waits for a
// disk. Data is locked as it is touched, because the runtime maps far more than
// it uses; the program itself is read in whole, as what a takeover runs has
// perhaps never run before.
func lockMemory() error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("lock program: %w", err)
	}
	defer f.Close()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("lock program: %w", err)
	}
	var errs []error
	for s := bufio.NewScanner(f); s.Scan(); {
		var from, to uintptr
		var mode string
		line := s.Text()
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n != 3 || mode[0] != 'r' || !strings.HasSuffix(line,
			" "+self) {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK, from, to-from, 0); errno != 0 {
			errs = append(errs, fmt.Errorf("lock program: %w", errno))
		}
	}
	return errors.Join(errs...)
}
