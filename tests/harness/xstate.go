package harness

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:embed umlshim/xstate.c
var xstateShim []byte

const (
	umlXstateBytes = 2696  // FP_XSTATE_MAGIC1's HOST_FP_SIZE of arch/x86/um/user-offsets.c
	ntX86Xstate    = 0x202 // NT_X86_XSTATE of elf.h
)

// umlEnv returns what user-mode-linux needs in its environment on this
// machine: usually nothing, and a shim where the processor has more registers
// than it knows.
func (h *host) umlEnv() ([]string, error) {
	n, err := xstateBytes()
	if err != nil {
		return nil, fmt.Errorf("find the size of the register state: %w", err)
	}
	if n <= umlXstateBytes {
		return nil, nil
	}
	src, lib := filepath.Join(h.dir, "xstate.c"), filepath.Join(h.dir, "xstate.so")
	if err := os.WriteFile(src, xstateShim, 0o600); err != nil {
		return nil, fmt.Errorf("write the register shim: %w", err)
	}
	out, err := exec.Command("gcc", "-O2", "-shared", "-fPIC", "-o", lib, src).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("user-mode-linux needs a shim on this processor, and building it failed (install "+
			"Debian's packages gcc and libc6-dev, or make deps): %w\n%s", err, out)
	}
	return []string{"LD_PRELOAD=" + lib}, nil
}

// xstateBytes asks the kernel how large the extended state of a traced process
// is, by tracing one that is killed before its first instruction.
func xstateBytes() (int, error) {
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &ws, 0, nil); err != nil {
		return 0, err
	}
	buf := make([]byte, 1<<16)
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGSET, uintptr(cmd.Process.Pid),
		ntX86Xstate, uintptr(unsafe.Pointer(&iov)), 0, 0)
	err := cmd.Process.Kill()
	cmd.Wait() // reports the kill
	if errno != 0 {
		return 0, errno
	}
	return int(iov.Len), err
}
