// Package harness runs tests and programs on a kernel that has ESP.
//
// Where an AEAD SA can be added on the running kernel (root, and esp plus a
// cipher present), everything runs there. Elsewhere (containers, sandboxes,
// unprivileged users) the same binary is started again as PID 1 of Debian's
// user-mode-linux, whose kernel has real ESP, with the same arguments,
// environment and working directory:
//
//	go test ── TestMain ── Main ──┬── native: m.Run
//	                              └── linux.uml init=<this binary>
//	                                    ├── PID 1: mounts, modules, reaping
//	                                    └── this binary again: m.Run
//
// With SASYNCD_GUEST=qemu in the environment the guest is Debian's cloud kernel
// under qemu, on an emulated processor if need be: an ordinary kernel, with what
// user-mode-linux has not, and one that programs with the race detector run on. It
// is slow, so everything that has a duration follows [Slow].
//
// The guest sees the host's files read-only and has fresh /run, /tmp, /var/lib.
// What it prints appears as it is printed; its exit code comes from a
// file, so that a guest that dies without a word has failed. Guests of different runs
// never are side by side on a host (but see [Beside]). All are killed as process
// groups when their starter ends, and
// always have a time limit.
//
// [MainMachines] is for tests that need several kernels: they run natively, and
// [Boot] guests whose agent is the same binary, joined by package wire's switch.
//
// Neither ESP nor user-mode-linux is a failure, never a skip. Each run prints
// one line that says which kernel it used.
package harness
