package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
)

// answerTime bounds the wait for an answer. The kernel answers before the
// system call that asks returns, so this is reached only by a bug.
const answerTime = 10 * time.Second

// requester sends requests and matches answers to them. It is safe for
// concurrent use; requests run one after the other and are not interrupted:
// their time is bounded by the kernel, and half an answer would have to be
// thrown away.
type requester struct {
	mu   sync.Mutex
	open func() (*socket, error)
	sock *socket
	seq  uint32
	// pid is written into every request. The kernel copies it into the events
	// that the request causes, which is how we know our own.
	pid uint32
	out []byte
}

func newRequester(open func() (*socket, error), pid uint32) (*requester, error) {
	sock, err := open()
	if err != nil {
		return nil, err
	}
	return &requester{open: open, sock: sock, pid: pid}, nil
}

func (r *requester) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sock.close()
}

// request sends one request and calls f, which may be nil, for each message of
// the answer. f's payload is valid during the call only. After an error of f
// or the end of ctx the rest of the answer is read and dropped. The error of a
// dump that was torn is dump.ErrInterrupted; see collect for one that is repeated.
func (r *requester) request(ctx context.Context, typ, flags uint16, payload []byte, f func(m message) error) error {
	return r.ask(ctx, typ, flags, payload, f, nil)
}

// datagrams is request without payload; it calls end behind the messages of some
// datagrams, as many as there is room for, until when their payloads are valid.
func (r *requester) datagrams(ctx context.Context, typ, flags uint16, f func(m message) error, end func() error) error {
	return r.ask(ctx, typ, flags, nil, f, end)
}

func (r *requester) ask(ctx context.Context, typ, flags uint16, payload []byte, f func(m message) error, end func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	r.seq++
	b, at := beginMessage(r.out[:0], typ, flags, r.seq, r.pid)
	b = append(b, payload...)
	endMessage(b, at)
	r.out = b
	if err := r.send(b); err != nil {
		return err
	}
	defer func() { r.sock.wipe() }() // whichever it is then
	var failed error
	var verdict verdict
	err := r.answers(func(m message) (done bool) {
		switch {
		case m.seq != r.seq:
			return false // the tail of a request that was given up
		case verdict.take(m, flags):
			return true
		case failed == nil && f != nil:
			if failed = ctx.Err(); failed == nil {
				failed = f(m)
			}
		}
		return false
	}, func() {
		if end != nil && failed == nil {
			failed = end()
		}
	})
	if err == nil {
		err = verdict.error()
	}
	return errors.Join(failed, err)
}

// collect dumps the messages of a table and lists what pick makes of them; pick
// reports false for a message that does not count. A dump that was torn is
// repeated; the error of one that stays so is dump.ErrInterrupted.
func collect[T any](ctx context.Context, r *requester, typ uint16, payload []byte, pick func(m message) (T, bool, error)) ([]T, error) {
	list, err := dump.List(func() (list []T, err error) {
		err = r.request(ctx, typ, unix.NLM_F_DUMP, payload, func(m message) error {
			v, ok, err := pick(m)
			if ok && err == nil {
				list = append(list, v)
			}
			return err
		})
		return list, err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// verdict is what the messages of an answer say of the answer as a whole.
type verdict struct {
	result
	torn bool
}

// take looks at a message of the answer to a request with these flags, and reports
// whether it is the last.
func (v *verdict) take(m message, flags uint16) (last bool) {
	v.torn = v.torn || flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP && m.flags&unix.NLM_F_DUMP_INTR != 0
	if m.typ != unix.NLMSG_DONE && m.typ != unix.NLMSG_ERROR {
		return false
	}
	v.errno, v.text = ack(m)
	return true
}

func (v *verdict) error() error {
	switch {
	case v.errno != 0:
		return v.result.error()
	case v.torn:
		return dump.ErrInterrupted
	}
	return nil
}

// send sends requests and overwrites them, as they may hold keys.
func (r *requester) send(b []byte) error {
	defer clear(b)
	return r.sock.send(b)
}

// batch sends n messages, which hold consecutive numbers from first on, and
// calls fail for each that the kernel refused. Only the last of them asks for
// an acknowledgement; the kernel reports failures of the others by itself, and
// goes on after a failure. The caller holds the lock.
func (r *requester) batch(b []byte, first uint32, n int, fail func(i int, res result)) error {
	if err := r.send(b); err != nil {
		return err
	}
	defer func() { r.sock.wipe() }()
	return r.answers(func(m message) (done bool) {
		i := m.seq - first
		if m.typ != unix.NLMSG_ERROR || i >= uint32(n) {
			return false
		}
		if errno, text := ack(m); errno != 0 {
			fail(int(i), result{errno, text})
		}
		return i == uint32(n)-1
	}, nil)
}

// answers reads until f is done, and calls end, if not nil, behind datagrams as
// many as there is room for. A socket that fails is replaced: it may hold the rest of an answer.
func (r *requester) answers(f func(m message) (done bool), end func()) error {
	for {
		datagram, err := r.sock.answer()
		if err != nil {
			if fresh, oerr := r.open(); oerr == nil {
				r.sock.wipe()
				_ = r.sock.close()
				r.sock = fresh
			}
			return err
		}
		done := false
		for rest := messages(datagram); !done; {
			m, ok := rest.next()
			if !ok {
				break
			}
			done = f(m)
		}
		if end != nil && (done || !r.sock.keep(datagram)) {
			r.sock.at = 0
			end()
		}
		if done {
			return nil
		}
	}
}

// result is the kernel's verdict on one request.
type result struct {
	errno syscall.Errno
	text  string
}

func (r result) error() error {
	if r.text == "" {
		return r.errno
	}
	return fmt.Errorf("%w (%s)", r.errno, r.text)
}
