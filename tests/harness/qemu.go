package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// kindQEMU is Debian's cloud kernel on an emulated machine: slower than
// user-mode-linux, but an ordinary kernel, with nf_tables, xfrm interfaces, and
// addresses enough for the race detector.
const kindQEMU = "qemu"

const (
	qemuProgram = "qemu-system-x86_64"
	qemuFiles   = "/usr/lib/qemu/virtiofsd" // of the package that qemu-system-x86 brings along
	shareHost   = "host"                    // all files, read-only in the guest
	shareRW     = "rw"                      // what the guest may write
)

// qemu is what a guest of that kind needs.
type qemu struct {
	h         *host
	program   string
	dir       string // where .ci/qemu unpacked the kernel
	release   string
	virtiofsd []*exec.Cmd
}

func (h *host) findQEMU() (*qemu, error) {
	program, err := exec.LookPath(qemuProgram)
	if err == nil {
		_, err = os.Stat(qemuFiles)
	}
	if err != nil {
		return nil, fmt.Errorf("find qemu (install Debian's package qemu-system-x86, or make deps-qemu): %w", err)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("start a guest under qemu: virtiofsd, which shows it this host's files, needs root")
	}
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	q := &qemu{h: h, program: program, dir: filepath.Join(root, "dist", "qemu")}
	b, err := os.ReadFile(filepath.Join(q.dir, "release"))
	if err != nil {
		return nil, fmt.Errorf("find the kernel for qemu (make deps-qemu downloads it): %w", err)
	}
	q.release = strings.TrimSpace(string(b))
	return q, nil
}

func (q *qemu) modules() string { return filepath.Join(q.dir, "lib", "modules") }

// run boots the guest and returns when it has ended.
func (q *qemu) run(bin string, limit time.Duration) (console string, err error) {
	initrd, err := q.initramfs()
	if err != nil {
		return "", err
	}
	// Who starts a process that is to die with it must not end before: see
	// PR_SET_PDEATHSIG, whose parent is a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer q.stopShares()
	host, err := q.share(shareHost, "/", "cache=always")
	if err != nil {
		return "", err
	}
	rw, err := q.share(shareRW, q.h.rw, "cache=none")
	if err != nil {
		return "", err
	}
	memory := strconv.FormatInt(q.h.qemuMemory()>>20, 10) + "M"
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", memory, "-smp",
		strconv.Itoa(qemuCPUs()),
		// What a file server of its own reads and writes must be shared memory.
		"-object", "memory-backend-memfd,id=mem,size=" + memory + ",share=on", "-numa", "node,memdev=mem",
		"-kernel", filepath.Join(q.dir, "boot", "vmlinuz-"+q.release), "-initrd", initrd,
		"-append", strings.Join([]string{"console=ttyS2", "quiet", "panic=-1", "mitigations=off", "nokaslr",
			"HARNESS_INIT=" + bin, envSpec + "=" + filepath.Join(q.h.dir, "spec.json")}, " "),
		"-add-fd", "fd=3,set=1", "-chardev", "file,id=out,path=/dev/fdset/1,append=on", "-serial", "chardev:out",
		"-add-fd", "fd=4,set=2", "-chardev", "file,id=err,path=/dev/fdset/2,append=on", "-serial", "chardev:err",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=" + shareHost + ",path=" + host, "-device", "vhost-user-fs-pci,chardev=" + shareHost +
			",tag=" + shareHost,
		"-chardev", "socket,id=" + shareRW + ",path=" + rw, "-device", "vhost-user-fs-pci,chardev=" + shareRW +
			",tag=" + shareRW,
	}
	cmd := exec.Command(q.program, append(args, accelerator()...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return watch(cmd, limit, func(cmd *exec.Cmd) error {
		if err := cmd.Start(); err != nil {
			return err
		}
		prioritise(cmd.Process.Pid)
		return nil
	})
}

// qemuCPUs is one where two would take turns on what the host has left: a
// processor that stands still in the middle of an interrupt reorders packets.
func qemuCPUs() int {
	if hasKVM() {
		return 2
	}
	return 1
}

// qemuMemory is what the guest gets in bytes: the race detector has every
// program use several times as much.
func (h *host) qemuMemory() int64 {
	if raceEnabled {
		return h.cfg.memory + 3<<30
	}
	return h.cfg.memory + 1<<30
}

// accelerator has the processor run the guest if it can. A processor that is
// virtual itself may offer /dev/kvm and then hang: its flags tell.
func accelerator() []string {
	if hasKVM() {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

func hasKVM() bool {
	info, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && (bytes.Contains(info, []byte(" vmx ")) || bytes.Contains(info, []byte(" svm "))) &&
		unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) == nil
}

// share starts a file server for a directory, and returns its socket.
func (q *qemu) share(name, dir, options string) (string, error) {
	socket := filepath.Join(q.h.dir, name+".sock")
	var log ring
	cmd := exec.Command(qemuFiles, "--socket-path="+socket, "-o", "source="+dir, "-o", options, "-o", "sandbox=chroot")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("share %s with the guest: %w", dir, err)
	}
	q.virtiofsd = append(q.virtiofsd, cmd)
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return socket, nil
		}
		if time.Since(start) > 10*time.Second {
			return "", fmt.Errorf("share %s with the guest: no socket: %s", dir, log.String())
		}
	}
}

func (q *qemu) stopShares() {
	for _, cmd := range q.virtiofsd {
		// A group of its own: the server has put its other half into a namespace.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // reports the kill
	}
}

// initramfs makes the guest's first root: what mounts the second.
func (q *qemu) initramfs() (string, error) {
	bin := filepath.Join(q.h.dir, "bootstrap")
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "./tests/harness/bootstrap")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the guest's first program: %w\n%s", err, out)
	}
	init, err := os.ReadFile(bin)
	if err != nil {
		return "", fmt.Errorf("read the guest's first program: %w", err)
	}
	x, err := readModules(q.modules(), q.release)
	if err != nil {
		return "", err
	}
	var c cpio
	c.add("dev", cpioDir, nil)
	c.add("dev/console", cpioConsole, nil)
	c.add("modules", cpioDir, nil)
	var order []string
	for _, p := range x.order("virtio_pci", "virtiofs") {
		b, err := os.ReadFile(filepath.Join(x.dir, p))
		if err != nil {
			return "", fmt.Errorf("read module: %w", err)
		}
		c.add("modules/"+filepath.Base(p), cpioFile, b)
		order = append(order, filepath.Base(p))
	}
	c.add("modules/order", cpioFile, []byte(strings.Join(order, "\n")))
	c.add("init", cpioFile, init)
	file := filepath.Join(q.h.dir, "initramfs")
	if err := os.WriteFile(file, c.bytes(), 0o600); err != nil {
		return "", fmt.Errorf("write the guest's first files: %w", err)
	}
	return file, nil
}
