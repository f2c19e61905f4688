// Program bootstrap is the first process of a guest under qemu. It lives in an
// initramfs, loads what the host's files need, and becomes the harness's init,
// which is one of those files.
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "bootstrap: %v\n", err) // the kernel's console
	}
	// A guest that got here has failed, and its starter misses the result.
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		return fmt.Errorf("read list of modules: %w", err)
	}
	for name := range strings.FieldsSeq(string(order)) {
		if err := insert("/modules/" + name); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	const root = "/host"
	if err := os.Mkdir(root, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if err := unix.Mount("host", root, "virtiofs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount the host's files: %w", err)
	}
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("enter the host's files: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("make the host's files the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	// The race detector looks at /proc before main.
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	init := os.Getenv("HARNESS_INIT")
	return fmt.Errorf("start %s: %w", init, unix.Exec(init, []string{init}, os.Environ()))
}

func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
