package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/lab"
)

// The floors: what the kernel needs for the same work, driven by a loop that
// neither understands nor remembers anything.

const (
	msgNewSA = 0x10
	msgGetSA = 0x12
	nlHeader = 16
	// bareBatch is where larger batches stop being faster.
	bareBatch = 100
)

var native = binary.NativeEndian

// bareSocket is a netlink socket inside a node.
type bareSocket struct {
	fd  int
	buf []byte
}

func openBare(t lab.T, nd *cluster.Node) *bareSocket {
	t.Helper()
	s := &bareSocket{fd: -1, buf: make([]byte, 64<<10)}
	err := nd.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_XFRM)
		if err != nil {
			return err
		}
		for _, opt := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, opt, 8<<20); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("open bare socket in %s: %v", nd.Name, err)
	}
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// dump reads all SAs, and hands out each message if each is not nil.
func (s *bareSocket) dump(each func([]byte)) (int, error) {
	req := make([]byte, nlHeader)
	native.PutUint32(req, nlHeader)
	native.PutUint16(req[4:], msgGetSA)
	native.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(s.fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	for count := 0; ; {
		n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		if err != nil {
			return 0, err
		}
		for b := s.buf[:n]; len(b) >= nlHeader; {
			size := int(native.Uint32(b))
			if native.Uint16(b[4:]) == unix.NLMSG_DONE {
				return count, nil
			}
			if each != nil {
				each(b[:size])
			}
			count++
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

// put sends messages of a dump as additions.
func (s *bareSocket) put(msgs [][]byte) error {
	batch := make([]byte, 0, 128<<10)
	for i := 0; i < len(msgs); i += bareBatch {
		chunk := msgs[i:min(i+bareBatch, len(msgs))]
		batch = batch[:0]
		for j, m := range chunk {
			at := len(batch)
			batch = append(batch, m...)
			flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_EXCL)
			if j == len(chunk)-1 {
				flags |= unix.NLM_F_ACK
			}
			native.PutUint16(batch[at+4:], msgNewSA)
			native.PutUint16(batch[at+6:], flags)
			native.PutUint32(batch[at+12:], 0)
		}
		if err := unix.Sendto(s.fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		if err != nil {
			return err
		}
		if n < 20 || native.Uint16(s.buf[4:]) != unix.NLMSG_ERROR {
			return fmt.Errorf("answer of %d bytes, type %d", n, native.Uint16(s.buf[4:]))
		}
		if e := int32(native.Uint32(s.buf[16:])); e != 0 {
			return syscall.Errno(-e)
		}
	}
	return nil
}

// copyAll copies all SAs from one node to another and returns how long reading
// and writing took.
func copyAll(from, to *bareSocket) (read, write time.Duration, err error) {
	var msgs [][]byte
	began := time.Now()
	if _, err := from.dump(func(m []byte) { msgs = append(msgs, append([]byte(nil), m...)) }); err != nil {
		return 0, 0, err
	}
	read = time.Since(began)
	err = to.put(msgs)
	return read, time.Since(began) - read, err
}

// bareCopy is copyAll into tables that are flushed first, done by a process of
// its own: like a standby that has just started it has no memory yet. fresh is
// what it took, warm the same in this process, which has done it before.
func bareCopy(t lab.T, from, to *bareSocket, flush func()) (fresh bareTimes, warm time.Duration) {
	t.Helper()
	flush()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("bare copy: %v", err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), bareEnv+"=1")
	cmd.Stderr = os.Stderr
	for _, s := range []*bareSocket{from, to} {
		fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatalf("bare copy: %v", err)
		}
		f := os.NewFile(uintptr(fd), "netlink")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &fresh)
	}
	if err != nil {
		t.Fatalf("bare copy: %v", err)
	}
	flush()
	read, write, err := copyAll(from, to)
	if err != nil {
		t.Fatalf("bare copy: %v", err)
	}
	return fresh, read + write
}

// bareTimes is what a bare copy took.
type bareTimes struct{ Read, Write time.Duration }

func (b bareTimes) total() time.Duration { return b.Read + b.Write }

// bareEnv makes this program do one bare copy, between the sockets 3 and 4.
const bareEnv = "BENCH_BARE"

func bareMain() int {
	from, to := &bareSocket{fd: 3, buf: make([]byte, 64<<10)}, &bareSocket{fd: 4, buf: make([]byte, 64<<10)}
	read, write, err := copyAll(from, to)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(bareTimes{read, write})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// cpu returns what a process has used of the processor.
func cpu(t lab.T, pid int) (user, total time.Duration) {
	t.Helper()
	u, s, err := readCPU(pid)
	if err != nil {
		t.Fatalf("read the processor time of %d: %v", pid, err)
	}
	return u, u + s
}

// threadCPU returns what f uses of the processor. Where the kernel accounts for
// that in ticks, as user-mode-linux does, it is the time that passes.
func threadCPU(t lab.T, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			t.Fatalf("read the processor time: %v", err)
		}
		return time.Duration(ts.Nano())
	}
	wall, began := time.Now(), now()
	f()
	used, passed := now()-began, time.Since(wall)
	if used%clockTick == 0 {
		return passed
	}
	return used
}
