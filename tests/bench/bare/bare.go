// Package bare is the floors: what the kernel needs for the same work, driven by
// a loop that neither understands nor remembers anything.
package bare

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/lab"
)

const (
	nlHeader = 16
	// batch is where larger batches stop being faster.
	batch = 100
)

var native = binary.NativeEndian

// Table is what is copied, as the messages that read it and add to it.
type Table struct{ get, add uint16 }

// Tables of XFRM.
var (
	SAs      = Table{0x12, 0x10}
	Policies = Table{0x15, 0x13}
)

// Socket is a netlink socket inside a node.
type Socket struct {
	fd  int
	buf []byte
}

// Open opens a socket in a node; it is closed when the test ends.
func Open(t lab.T, nd *cluster.Node) *Socket {
	t.Helper()
	s := &Socket{fd: -1, buf: make([]byte, 64<<10)}
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

// Dump reads a table, and hands out each message if each is not nil.
func (s *Socket) Dump(t Table, each func([]byte)) (int, error) {
	req := make([]byte, nlHeader)
	native.PutUint32(req, nlHeader)
	native.PutUint16(req[4:], t.get)
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

// What asks for the size of the SAD (include/uapi/linux/xfrm.h), and where in the
// answer it is: behind the header, flags and an attribute's header.
const (
	getSADInfo, newSADInfo = 0x23, 0x22
	sadCount               = nlHeader + 4 + 4
)

// Count is how many SAs there are, which the kernel knows without counting.
func (s *Socket) Count() (int, error) {
	req := make([]byte, nlHeader+4)
	native.PutUint32(req, uint32(len(req)))
	native.PutUint16(req[4:], getSADInfo)
	native.PutUint16(req[6:], unix.NLM_F_REQUEST)
	if err := unix.Sendto(s.fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
	if err != nil {
		return 0, err
	}
	const attrCount = 1 // XFRMA_SAD_CNT
	if n < sadCount+4 || native.Uint16(s.buf[4:]) != newSADInfo || native.Uint16(s.buf[sadCount-2:]) != attrCount {
		return 0, fmt.Errorf("answer of %d bytes, type %d", n, native.Uint16(s.buf[4:]))
	}
	return int(native.Uint32(s.buf[sadCount:])), nil
}

// put sends messages of a dump as additions.
func (s *Socket) put(t Table, msgs [][]byte) error {
	b := make([]byte, 0, 128<<10)
	for i := 0; i < len(msgs); i += batch {
		chunk := msgs[i:min(i+batch, len(msgs))]
		b = b[:0]
		for j, m := range chunk {
			at := len(b)
			b = append(b, m...)
			flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_EXCL)
			if j == len(chunk)-1 {
				flags |= unix.NLM_F_ACK
			}
			native.PutUint16(b[at+4:], t.add)
			native.PutUint16(b[at+6:], flags)
			native.PutUint32(b[at+12:], 0)
		}
		if err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
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

// copyAll copies a table from one node to another and returns how long reading
// and writing took.
func copyAll(t Table, from, to *Socket) (read, write time.Duration, err error) {
	var msgs [][]byte
	began := time.Now()
	if _, err := from.Dump(t, func(m []byte) { msgs = append(msgs, append([]byte(nil), m...)) }); err != nil {
		return 0, 0, err
	}
	read = time.Since(began)
	err = to.put(t, msgs)
	return read, time.Since(began) - read, err
}

// Copy is copyAll into tables that are flushed first, done by a process of
// its own: like a standby that has just started it has no memory yet. fresh is
// what it took, warm the same in this process, which has done it before.
func Copy(t lab.T, table Table, from, to *Socket, flush func()) (fresh Times, warm time.Duration) {
	t.Helper()
	flush()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("bare copy: %v", err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", env, table.get, table.add))
	cmd.Stderr = os.Stderr
	for _, s := range []*Socket{from, to} {
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
	read, write, err := copyAll(table, from, to)
	if err != nil {
		t.Fatalf("bare copy: %v", err)
	}
	return fresh, read + write
}

// Times are what a copy took.
type Times struct{ Read, Write time.Duration }

// Total is all of it.
func (b Times) Total() time.Duration { return b.Read + b.Write }

// env makes this program do one copy, of the table that it names, between the
// sockets 3 and 4.
const env = "BENCH_BARE"

// Main has to be called first thing by a program that calls [Copy]: it does the
// copy and exits if this process is there for that.
func Main() {
	if os.Getenv(env) != "" {
		os.Exit(copyMain())
	}
}

func copyMain() int {
	var t Table
	if _, err := fmt.Sscan(os.Getenv(env), &t.get, &t.add); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	from, to := &Socket{fd: 3, buf: make([]byte, 64<<10)}, &Socket{fd: 4, buf: make([]byte, 64<<10)}
	read, write, err := copyAll(t, from, to)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(Times{read, write})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
