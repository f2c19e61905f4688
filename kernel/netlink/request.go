package netlink

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

// Requester sends requests and matches answers to them. It is safe for
// concurrent use; requests run one after the other and are not interrupted:
// their time is bounded by the kernel, and half an answer would have to be
// thrown away.
type Requester struct {
	mu   sync.Mutex
	open func() (*Socket, error)
	sock *Socket
	seq  uint32
	// pid is written into every request. The kernel copies it into the events
	// that the request causes, which is how we know our own.
	pid uint32
	out []byte
}

// NewRequester opens a socket for requests. open is called again where that fails later.
// pid is written into every request, 0 for what the kernel assigns.
func NewRequester(open func() (*Socket, error), pid uint32) (*Requester, error) {
	sock, err := open()
	if err != nil {
		return nil, err
	}
	return &Requester{open: open, sock: sock, pid: pid}, nil
}

// Close closes the socket.
func (r *Requester) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sock.Close()
}

// Request sends one request and calls f, which may be nil, for each message of
// the answer. f's payload is valid during the call only. After an error of f
// or the end of ctx the rest of the answer is dropped. The kernel does not finish a dump
// that is given up so. The error of a
// dump that was torn is dump.ErrInterrupted; see Collect for one that is repeated.
func (r *Requester) Request(ctx context.Context, typ, flags uint16, payload []byte, f func(m Message) error) error {
	return r.ask(ctx, typ, flags, payload, f, nil)
}

// Datagrams is Request without payload; it calls end behind the messages of some
// datagrams, as many as there is room for, until when their payloads are valid.
func (r *Requester) Datagrams(ctx context.Context, typ, flags uint16, f func(m Message) error, end func() error) error {
	return r.ask(ctx, typ, flags, nil, f, end)
}

func (r *Requester) ask(ctx context.Context, typ, flags uint16, payload []byte, f func(m Message) error,
	end func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	r.seq++
	b, at := BeginMessage(r.out[:0], typ, flags, r.seq, r.pid)
	b = append(b, payload...)
	EndMessage(b, at)
	r.out = b
	if err := r.send(b); err != nil {
		return err
	}
	defer func() { r.sock.wipe() }() // whichever it is then
	var failed error
	var v Verdict
	dumps := flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	err := r.answers(func(m Message) (done bool) {
		switch {
		case m.Seq != r.seq:
			return false // the tail of a request that was given up
		case v.Take(m, flags):
			return true
		case failed == nil && f != nil:
			if failed = ctx.Err(); failed == nil {
				failed = f(m)
			}
		}
		return failed != nil && dumps
	}, func() {
		if end != nil && failed == nil {
			failed = end()
		}
	})
	switch {
	case err != nil:
	case failed != nil && dumps:
		r.renew() // the socket holds the rest of the dump
	default:
		err = v.Err()
	}
	return errors.Join(failed, err)
}

// renew replaces the socket, unless no other can be opened.
func (r *Requester) renew() {
	if fresh, err := r.open(); err == nil {
		r.sock.wipe()
		_ = r.sock.Close()
		r.sock = fresh
	}
}

// Collect dumps the messages of a table and lists what pick makes of them; pick
// reports false for a message that does not count. A dump that was torn is
// repeated; the error of one that stays so is dump.ErrInterrupted.
func Collect[T any](ctx context.Context, r *Requester, typ uint16, payload []byte, pick func(m Message) (T, bool,
	error)) ([]T, error) {
	list, err := dump.List(func() (list []T, err error) {
		err = r.Request(ctx, typ, unix.NLM_F_DUMP, payload, func(m Message) error {
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

// Verdict is what the messages of an answer say of the answer as a whole.
type Verdict struct {
	Result
	torn bool
}

// Take looks at a message of the answer to a request with these flags, and reports
// whether it is the last.
func (v *Verdict) Take(m Message, flags uint16) (last bool) {
	v.torn = v.torn || flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP && m.Flags&unix.NLM_F_DUMP_INTR != 0
	if m.Type != unix.NLMSG_DONE && m.Type != unix.NLMSG_ERROR {
		return false
	}
	v.Errno, v.Text = ack(m)
	return true
}

// Err returns the kernel's refusal, dump.ErrInterrupted of a dump that was torn, or nil.
func (v *Verdict) Err() error {
	switch {
	case v.Errno != 0:
		return v.Result.Err()
	case v.torn:
		return dump.ErrInterrupted
	}
	return nil
}

// send sends requests and overwrites them, as they may hold keys.
func (r *Requester) send(b []byte) error {
	defer clear(b)
	return r.sock.Send(b)
}

// answers reads until f is done, and calls end, if not nil, behind datagrams as
// many as there is room for. A socket that fails is replaced: it may hold the rest of an answer.
func (r *Requester) answers(f func(m Message) (done bool), end func()) error {
	for {
		datagram, err := r.sock.Answer()
		if err != nil {
			r.renew()
			return err
		}
		done := false
		for rest := Messages(datagram); !done; {
			m, ok := rest.Next()
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

// Result is the kernel's answer to one request: 0 for success.
type Result struct {
	Errno syscall.Errno
	Text  string // the kernel's explanation, if any
}

// Err returns the error with the explanation. It matches the errno.
func (r Result) Err() error {
	if r.Text == "" {
		return r.Errno
	}
	return fmt.Errorf("%w (%s)", r.Errno, r.Text)
}
