package meter

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is the most packets that one system call moves. System calls are what
// costs in a guest, so packets are sent and received by the batch.
const batch = 64

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// mmsg is a set of buffers for sendmmsg(2) and recvmmsg(2).
type mmsg struct {
	hdrs [batch]mmsghdr
	iovs [batch]unix.Iovec
	bufs [batch][]byte
	oobs [batch][64]byte
	to   []byte // raw socket address
}

// newMmsg makes buffers of size bytes, for sending when to is valid, otherwise for receiving.
func newMmsg(size int, to netip.AddrPort) *mmsg {
	m := &mmsg{}
	if to.IsValid() {
		m.to = rawSockaddr(to)
	}
	for i := range m.hdrs {
		m.bufs[i] = make([]byte, size)
		m.iovs[i] = unix.Iovec{Base: &m.bufs[i][0], Len: uint64(size)}
		h := &m.hdrs[i].hdr
		h.Iov, h.Iovlen = &m.iovs[i], 1
		if m.to != nil {
			h.Name, h.Namelen = &m.to[0], uint32(len(m.to))
		} else {
			h.Control = &m.oobs[i][0]
		}
	}
	return m
}

// rawSockaddr is struct sockaddr_in or sockaddr_in6.
func rawSockaddr(a netip.AddrPort) []byte {
	ne, be := binary.NativeEndian, binary.BigEndian
	if a.Addr().Is4() {
		b := ne.AppendUint16(nil, unix.AF_INET)
		b = be.AppendUint16(b, a.Port())
		b = append(b, a.Addr().AsSlice()...)
		return append(b, make([]byte, 8)...)
	}
	b := ne.AppendUint16(nil, unix.AF_INET6)
	b = be.AppendUint16(b, a.Port())
	b = append(b, 0, 0, 0, 0) // flow
	b = append(b, a.Addr().AsSlice()...)
	return append(b, 0, 0, 0, 0) // scope
}

// send sends buffers from to to-1. A packet that cannot be sent (no route, no
// neighbour, no buffer) is skipped: to the application it is lost like one that
// the network lost.
func (m *mmsg) send(fd, n int) {
	for i := 0; i < n; {
		done, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdrs[i])),
			uintptr(n-i), 0, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			i++
		default:
			i += int(done)
		}
	}
}

// receive takes up to [batch] packets that are there and returns how many.
func (m *mmsg) receive(fd int) (int, error) {
	for i := range m.hdrs {
		m.hdrs[i].hdr.SetControllen(len(m.oobs[i]))
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdrs[0])), batch,
		unix.MSG_DONTWAIT, 0, 0)
	switch {
	case errors.Is(errno, unix.EAGAIN) || errors.Is(errno, unix.EINTR):
		return 0, nil
	case errno != 0:
		return 0, errno
	}
	return int(n), nil
}

// packet returns the contents of a received packet and the kernel's time of its arrival.
func (m *mmsg) packet(i int) ([]byte, time.Time) {
	oob := m.oobs[i][:m.hdrs[i].hdr.Controllen]
	at := time.Time{}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, c := range msgs {
			if c.Header.Level == unix.SOL_SOCKET && c.Header.Type == unix.SCM_TIMESTAMPNS && len(c.Data) >= 16 {
				at = time.Unix(int64(binary.NativeEndian.Uint64(c.Data)), int64(binary.NativeEndian.Uint64(c.Data[8:])))
			}
		}
	}
	return m.bufs[i][:m.hdrs[i].n], at
}
