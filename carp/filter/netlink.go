package filter

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A batch is what nf_tables takes or refuses as a whole (linux/nfnetlink.h,
// linux/netfilter/nf_tables.h): messages between a begin and an end, each with
// attributes, numbers of which are big endian.
type batch struct {
	b      []byte
	n      uint32 // messages that are answered
	rules  uint32
	family uint8
}

const (
	headerLen    = 16 + 4 // struct nlmsghdr, struct nfgenmsg
	batchBegin   = 0x10
	batchEnd     = 0x11
	nested       = 0x8000 // NLA_F_NESTED
	answerLimit  = 2 * time.Second
	answerRoom   = 1024      // of a socket's buffer for an answer
	usualBuffer  = 208 << 10 // net.core.wmem_default and rmem_default
	nfTables     = unix.NFNL_SUBSYS_NFTABLES
	flagsCreate  = unix.NLM_F_REQUEST | unix.NLM_F_ACK | unix.NLM_F_CREATE
	flagsAppend  = flagsCreate | unix.NLM_F_APPEND
	flagsDelete  = unix.NLM_F_REQUEST | unix.NLM_F_ACK
	flagsNothing = unix.NLM_F_REQUEST
)

func newBatch(family uint8) *batch {
	b := &batch{family: family}
	b.message(batchBegin, flagsNothing, unix.AF_UNSPEC, nfTables)
	return b
}

// message appends a message.
func (b *batch) message(kind, flags uint16, family uint8, res uint16, attrs ...[]byte) {
	at := len(b.b)
	b.b = append(b.b, make([]byte, headerLen)...)
	for _, a := range attrs {
		b.b = append(b.b, a...)
	}
	h := b.b[at:]
	binary.NativeEndian.PutUint32(h, uint32(len(h)))
	binary.NativeEndian.PutUint16(h[4:], kind)
	binary.NativeEndian.PutUint16(h[6:], flags)
	binary.NativeEndian.PutUint32(h[8:], b.n) // number of the answer
	h[16] = family
	binary.BigEndian.PutUint16(h[18:], res)
}

// add appends a message of nf_tables.
func (b *batch) add(kind, flags uint16, attrs ...[]byte) {
	b.n++
	b.message(nfTables<<8|kind, flags, b.family, 0, attrs...)
}

// attr encodes an attribute.
func attr(kind uint16, data ...[]byte) []byte {
	out := make([]byte, 4)
	for _, d := range data {
		out = append(out, d...)
	}
	binary.NativeEndian.PutUint16(out, uint16(len(out)))
	binary.NativeEndian.PutUint16(out[2:], kind)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}

func nest(kind uint16, attrs ...[]byte) []byte { return attr(kind|nested, attrs...) }

func text(kind uint16, s string) []byte { return attr(kind, []byte(s), []byte{0}) }

func number(kind uint16, v uint32) []byte {
	return attr(kind, binary.BigEndian.AppendUint32(nil, v))
}

// commit sends the batch and waits for its answers.
func (b *batch) commit() error {
	count := b.n
	b.message(batchEnd, flagsNothing, unix.AF_UNSPEC, nfTables)
	fd, err := openSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// It is one datagram, and the answers to all of it wait to be read. Where there is no
	// room for them, that is said by what follows.
	for opt, size := range map[int]int{unix.SO_SNDBUFFORCE: len(b.b), unix.SO_RCVBUFFORCE: int(count) * answerRoom} {
		if size > usualBuffer/2 {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, max(size, usualBuffer))
		}
	}
	if err := unix.Sendto(fd, b.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send rules: %w", err)
	}
	buf := make([]byte, 1<<16)
	for answered := uint32(0); answered < count; {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read answer about rules: %w", err)
		}
		k, err := answers(buf[:n])
		if err != nil {
			return err
		}
		answered += k
	}
	return nil
}

// answers counts the answers in what was received, up to the first error.
func answers(b []byte) (n uint32, err error) {
	for len(b) >= headerLen {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerLen || size > len(b) {
			return n, fmt.Errorf("read answer about rules: length %d of %d bytes", size, len(b))
		}
		if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR {
			if code := int32(binary.NativeEndian.Uint32(b[16:])); code != 0 {
				return n, fmt.Errorf("kernel refuses rules: %w", unix.Errno(-code))
			}
			n++
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return n, nil
}

// openSocket opens a socket that does not wait for ever.
func openSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, fmt.Errorf("open netfilter socket: %w", err)
	}
	limit := unix.NsecToTimeval(int64(answerLimit))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set time limit: %w", err)
	}
	return fd, nil
}

// message is one of an answer, without its header.
type message struct {
	kind, flags uint16
	payload     []byte
}

// ask sends one request and calls f for each message of the answer. Their payloads
// are valid during the call only.
func ask(kind uint16, family uint8, flags uint16, attrs []byte, f func(m message)) error {
	fd, err := openSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var b batch
	b.message(nfTables<<8|kind, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags, family, 0, attrs)
	if err := unix.Sendto(fd, b.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask for rules: %w", err)
	}
	size := 4 << 10
	if flags&unix.NLM_F_DUMP != 0 {
		size = 64 << 10
	}
	buf := make([]byte, size)
	interrupted := false
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read answer about rules: %w", err)
		}
		done, err := messages(buf[:n], func(m message) {
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			f(m)
		})
		switch {
		case err != nil:
			return err
		case done && interrupted:
			return errInterrupted
		case done:
			return nil
		}
	}
}

// messages calls f for each message in what was received, and reports whether the
// answer ends there. Refusals are errors.
func messages(b []byte, f func(m message)) (done bool, err error) {
	const header = unix.SizeofNlMsghdr
	for len(b) >= header {
		size := int(binary.NativeEndian.Uint32(b))
		if size < header || size > len(b) {
			return false, fmt.Errorf("read answer about rules: length %d of %d bytes", size, len(b))
		}
		kind, flags, body := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), b[header:size]
		switch {
		case kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR:
			if len(body) >= 4 {
				if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
					return false, fmt.Errorf("kernel refuses to read rules: %w", unix.Errno(-code))
				}
			}
			return true, nil
		case len(body) >= headerLen-header:
			f(message{kind, flags, body[headerLen-header:]})
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return false, nil
}
