package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	headerSize = 16
	// MaxMessage holds the largest message the kernel builds for a dump.
	MaxMessage = 64 << 10
)

// Socket is one netlink socket. It is used by one goroutine at a time.
type Socket struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte
	at   int // where in buf the next datagram goes, see Answer
	used int // how much of buf holds something
}

// OpenSocket opens a netlink socket on the calling thread's namespace and
// joins the groups. rcvbuf and sndbuf are bytes; without privilege to force
// them they are what the system allows.
func OpenSocket(protocol, rcvbuf, sndbuf int, groups ...int) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := setUpSocket(fd, rcvbuf, sndbuf, groups); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "netlink")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return &Socket{file: file, raw: raw, buf: make([]byte, MaxMessage)}, nil
}

func setUpSocket(fd, rcvbuf, sndbuf int, groups []int) error {
	force := func(opt, plain, size int) error {
		if size == 0 {
			return nil
		}
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, size) == nil {
			return nil
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
	if err := force(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, rcvbuf); err != nil {
		return fmt.Errorf("set netlink receive buffer: %w", err)
	}
	if err := force(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sndbuf); err != nil {
		return fmt.Errorf("set netlink send buffer: %w", err)
	}
	// Words in errors, and errors without a copy of the request: a request
	// holds keys. Kernels too old for either send plain errors.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("bind netlink socket: %w", err)
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return fmt.Errorf("join netlink group %d: %w", g, err)
		}
	}
	return nil
}

// Strict has the kernel check dump requests, and list only what they ask for
// (NETLINK_GET_STRICT_CHK, Linux 4.20).
func (s *Socket) Strict() (err error) {
	cerr := s.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	})
	return errors.Join(cerr, err)
}

// Buffer gives the socket a buffer of n bytes, at least MaxMessage, for what is received:
// Datagrams hands out as many as it holds.
func (s *Socket) Buffer(n int) { s.buf = make([]byte, max(n, MaxMessage)) }

// Close closes the socket. A pending read fails.
func (s *Socket) Close() error { return s.file.Close() }

// Send sends b, which may hold several messages, to the kernel. The kernel
// executes all of them before it returns.
func (s *Socket) Send(b []byte) error {
	var err error
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	werr := s.raw.Write(func(fd uintptr) bool {
		for {
			err = unix.Sendto(int(fd), b, 0, to)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(werr, err); err != nil {
		return fmt.Errorf("send to netlink: %w", err)
	}
	return nil
}

// Interrupt makes a pending read, and every later one, fail.
func (s *Socket) Interrupt() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) }

// Answer is Recv for what the kernel has to say at once: it has answered before
// the system call that asked returned, so a deadline is set only where nothing is
// there. (Each deadline costs a look at the clock.)
func (s *Socket) Answer() ([]byte, error) {
	r := received{err: unix.EAGAIN}
	if err := s.raw.Control(func(fd uintptr) { r.from(fd, s.buf[s.at:]) }); err != nil {
		return nil, fmt.Errorf("receive from netlink: %w", err)
	}
	if r.err != unix.EAGAIN {
		return s.datagram(r)
	}
	_ = s.file.SetReadDeadline(time.Now().Add(answerTime))
	defer func() { _ = s.file.SetReadDeadline(time.Time{}) }()
	return s.Recv()
}

// Recv waits for the next datagram, valid until the next call.
func (s *Socket) Recv() ([]byte, error) {
	var r received
	if err := s.raw.Read(func(fd uintptr) bool {
		r.from(fd, s.buf[s.at:])
		return r.err != unix.EAGAIN
	}); err != nil {
		return nil, fmt.Errorf("receive from netlink: %w", err)
	}
	return s.datagram(r)
}

// datagram judges what was received.
func (s *Socket) datagram(r received) ([]byte, error) {
	s.used = max(s.used, min(s.at+max(r.n, 0), len(s.buf)))
	return r.datagram(s.buf[s.at:])
}

// wipe overwrites what was received, which may hold keys: nothing else would, when
// later datagrams are fewer or shorter.
func (s *Socket) wipe() {
	clear(s.buf[:s.used])
	s.at, s.used = 0, 0
}

// keep protects a datagram that has just been received from the next, and
// reports whether there is room for that.
func (s *Socket) keep(datagram []byte) bool {
	if s.at+len(datagram)+MaxMessage > len(s.buf) {
		return false
	}
	s.at += len(datagram)
	return true
}

// received is the outcome of one recvfrom.
type received struct {
	n      int
	sender unix.Sockaddr
	err    error
}

func (r *received) from(fd uintptr, buf []byte) {
	for {
		if r.n, r.sender, r.err = unix.Recvfrom(int(fd), buf, unix.MSG_TRUNC); r.err != unix.EINTR {
			return
		}
	}
}

func (r *received) datagram(buf []byte) ([]byte, error) {
	if r.err != nil {
		return nil, fmt.Errorf("receive from netlink: %w", r.err)
	}
	if nl, ok := r.sender.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
		return nil, nil // not from the kernel
	}
	if r.n > len(buf) {
		return nil, fmt.Errorf("receive from netlink: message of %d bytes, buffer of %d", r.n, len(buf))
	}
	return buf[:r.n], nil
}

// Message is one netlink message inside a datagram.
type Message struct {
	Type, Flags uint16
	Seq, PID    uint32
	Payload     []byte
}

// Messages walks the messages of a datagram.
type Messages []byte

// Next returns the next message and moves behind it. It ends at the first message whose
// length does not fit what is left.
func (m *Messages) Next() (msg Message, ok bool) {
	b := *m
	if len(b) < headerSize {
		return msg, false
	}
	n := int(native.Uint32(b))
	if n < headerSize || n > len(b) {
		return msg, false
	}
	*m = b[min(align(n), len(b)):]
	return Message{
		Type: native.Uint16(b[4:]), Flags: native.Uint16(b[6:]),
		Seq: native.Uint32(b[8:]), PID: native.Uint32(b[12:]),
		Payload: b[headerSize:n:n],
	}, true
}

// BeginMessage appends the header of a request, and returns where that is. EndMessage, to
// be called when the payload is appended, fixes its length.
func BeginMessage(b []byte, typ, flags uint16, seq, pid uint32) ([]byte, int) {
	at := len(b)
	b = native.AppendUint32(b, 0)
	b = native.AppendUint16(b, typ)
	b = native.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = native.AppendUint32(b, seq)
	return native.AppendUint32(b, pid), at
}

// EndMessage ends what BeginMessage began.
func EndMessage(b []byte, at int) {
	native.PutUint32(b[at:], uint32(len(b)-at))
}

// ack reads an NLMSG_ERROR or NLMSG_DONE payload: the error, 0 for success,
// and the kernel's words for it.
func ack(m Message) (errno syscall.Errno, text string) {
	if len(m.Payload) < 4 {
		return unix.EBADMSG, ""
	}
	errno = syscall.Errno(-int32(native.Uint32(m.Payload)))
	if m.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return errno, ""
	}
	rest := Attrs(nil)
	switch {
	case m.Type == unix.NLMSG_DONE:
		rest = m.Payload[4:]
	case len(m.Payload) >= 4+headerSize:
		skip := 4 + headerSize
		if m.Flags&unix.NLM_F_CAPPED == 0 {
			skip = 4 + align(int(native.Uint32(m.Payload[4:])))
		}
		if skip >= 4 && skip <= len(m.Payload) {
			rest = m.Payload[skip:]
		}
	}
	for {
		typ, data, ok := rest.Next()
		if !ok {
			return errno, text
		}
		if typ == unix.NLMSGERR_ATTR_MSG {
			for len(data) > 0 && data[len(data)-1] == 0 {
				data = data[:len(data)-1]
			}
			text = string(data)
		}
	}
}

// SkipFrom has the kernel keep messages away from the socket whose nlmsg_pid,
// at offset 12, is pid. An announcement carries one message.
func (s *Socket) SkipFrom(pid uint32) error {
	var b [4]byte
	native.PutUint32(b[:], pid)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12}, // in network order
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: binary.BigEndian.Uint32(b[:])},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	var opt error
	if err := s.raw.Control(func(fd uintptr) {
		opt = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
	}); err != nil {
		return err
	}
	if opt != nil {
		return fmt.Errorf("filter netlink socket: %w", opt)
	}
	return nil
}
