package leakguard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/nftables"
	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/guard"
)

// ErrUnsupported says that the kernel cannot guard against leaks. The error that wraps it
// names what is missing.
var ErrUnsupported = errors.New("the kernel cannot guard against leaks")

// Filter is the table of one network namespace. Its methods are safe for concurrent use.
// Two Filters of a namespace take the table from each other.
type Filter struct {
	ns  *netlink.Namespace
	req *netlink.Requester

	mu   sync.Mutex
	conn *nftables.Conn
	sock *mdlayher.Conn // of conn
	port uint32         // of sock: the kernel writes it into the news of what sock has changed
	// watching are the sockets of Watch, which hear nothing of port.
	watching map[*netlink.Socket]bool
	left     *look // the table as Set left it; nil if that is not known
	drops    tally
}

const (
	// The socket's buffers bound a batch and its answers. The kernel takes memory only for
	// what is there.
	bufferSize = 64 << 20
	// answers bounds the wait for acknowledgements, which are there when the batch has been
	// sent. Only a bug reaches it.
	answers = time.Minute
	// attempts bound how often the table appears or goes between a look and a batch.
	attempts = 3
)

// New opens the packet filter of the calling thread's network namespace. It changes
// nothing. A kernel without nf_tables is ErrUnsupported, and a process without
// CAP_NET_ADMIN fs.ErrPermission.
func New() (*Filter, error) {
	f := &Filter{watching: make(map[*netlink.Socket]bool)}
	var err error
	if f.ns, err = netlink.CurrentNamespace(); err != nil {
		return nil, fmt.Errorf("open leak guard: %w", err)
	}
	f.req, err = netlink.NewRequester(func() (*netlink.Socket, error) {
		return f.ns.Open(unix.NETLINK_NETFILTER, 0, 0)
	}, 0)
	if err == nil {
		err = f.ask(context.Background(), unix.NFT_MSG_GETGEN, nil, nil)
	}
	if err == nil {
		err = f.dial()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open leak guard: %w", withoutTables(err)), f.Close())
	}
	return f, nil
}

// Close releases the sockets, but for those of Watch, which end with their contexts. The
// table stays.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	if f.conn != nil {
		errs = append(errs, f.conn.CloseLasting())
	}
	if f.req != nil {
		errs = append(errs, f.req.Close())
	}
	f.ns.Close()
	return errors.Join(errs...)
}

// dial opens the socket for changes, in place of one that has failed: nobody knows what
// that still holds.
func (f *Filter) dial() error {
	if f.conn != nil {
		_ = f.conn.CloseLasting()
	}
	return f.ns.Do(func() (err error) {
		f.conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(f.prepare))
		return err
	})
}

// prepare sets a socket up and has those of Watch ignore what it does.
func (f *Filter) prepare(c *mdlayher.Conn) error {
	f.sock = c
	err := errors.Join(c.SetReadBuffer(bufferSize), c.SetWriteBuffer(bufferSize))
	// Words in errors, and errors without a copy of the batch. Old kernels do without.
	_ = c.SetOption(mdlayher.ExtendedAcknowledge, true)
	_ = c.SetOption(mdlayher.CapAcknowledge, true)
	raw, rerr := c.SyscallConn()
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	var name unix.Sockaddr
	var nerr error
	rerr = raw.Control(func(fd uintptr) { name, nerr = unix.Getsockname(int(fd)) })
	if err := errors.Join(err, rerr, nerr); err != nil {
		return err
	}
	f.port = name.(*unix.SockaddrNetlink).Pid
	for s := range f.watching {
		err = errors.Join(err, s.SkipFrom(f.port))
	}
	return err
}

// Set makes the table that of a program, in one transaction, whoever has changed it
// since. A kernel that lacks something the table needs is ErrUnsupported.
func (f *Filter) Set(ctx context.Context, p guard.Program, own Own) error {
	w, err := wallOf(p, own)
	if err != nil {
		return fmt.Errorf("set leak guard: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for range attempts {
		if err = f.replace(ctx, w); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("set leak guard: %w", f.explain(err))
	}
	return nil
}

// replace replaces the table once. Somebody else may be quicker than it: then what it
// deletes is gone, ENOENT, or what it makes is there, EEXIST.
func (f *Filter) replace(ctx context.Context, w *wall) error {
	there, err := f.count(ctx)
	if err != nil {
		return err
	}
	f.left = nil
	if err := f.send(func(c *nftables.Conn) error { return w.queue(c, there, f.drops.total) }); err != nil {
		return err
	}
	f.drops.seed()
	// The table is set, so that it cannot be read is no failure. Where the numbers differ
	// somebody has changed it already. There then says that it is not as it was left.
	if now, err := f.look(ctx); err == nil && now.rules == w.ruleCount() && now.sets == len(w.sets) {
		f.left = &now
	}
	return nil
}

// send sends a batch. The library keeps what a failed one has left in its socket and in
// its memory, so it gets new ones then.
func (f *Filter) send(queue func(c *nftables.Conn) error) error {
	if f.conn == nil { // it could not be opened again
		if err := f.dial(); err != nil {
			return err
		}
	}
	err := f.sock.SetReadDeadline(time.Now().Add(answers))
	if err == nil {
		err = queue(f.conn)
	}
	if err == nil {
		err = f.conn.Flush()
	}
	if err == nil {
		return nil
	}
	err = firstOf(err)
	if errors.Is(err, unix.EMSGSIZE) {
		err = fmt.Errorf("the batch is larger than the socket's buffer, raise net.core.wmem_max: %w", err)
	}
	return errors.Join(err, f.dial())
}

// firstOf returns the first of joined errors. What a batch fails with behind its first
// failure follows from that.
func firstOf(err error) error {
	for {
		var list interface{ Unwrap() []error }
		if !errors.As(err, &list) {
			return err
		}
		err = list.Unwrap()[0]
	}
}

// Remove deletes the table, if it is there.
func (f *Filter) Remove(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	there, err := f.count(ctx)
	if err == nil && there {
		err = f.send(func(c *nftables.Conn) error {
			c.DelTable(theTable())
			return nil
		})
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove leak guard: %w", err)
	}
	f.left = nil
	f.drops.seed()
	return nil
}

// There reports whether the table is as Set of this Filter left it. Elements that
// somebody has deleted from a set show only where the kernel tells how many there are;
// Watch tells of them everywhere.
func (f *Filter) There(ctx context.Context) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == nil {
		return false, nil
	}
	now, err := f.look(ctx)
	if err != nil {
		return false, fmt.Errorf("look at leak guard: %w", err)
	}
	return now.sum == f.left.sum, nil
}

// Drops counts the packets that the table and those before it have dropped.
func (f *Filter) Drops(ctx context.Context) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.count(ctx); err != nil {
		return 0, fmt.Errorf("count what the leak guard drops: %w", err)
	}
	return f.drops.total.packets, nil
}

// count reads the counter, and reports whether there is a table.
func (f *Filter) count(ctx context.Context) (there bool, err error) {
	now, there, err := f.counter(ctx)
	if err == nil && there {
		f.drops.add(now)
	}
	return there, err
}

// tally adds up a counter that may begin anew.
type tally struct{ total, last volume }

type volume struct{ packets, bytes uint64 }

// add adds what a counter has counted since it was read last. One that has less than
// then was set to zero.
func (t *tally) add(now volume) {
	since := t.last
	if now.packets < since.packets || now.bytes < since.bytes {
		since = volume{}
	}
	t.total.packets += now.packets - since.packets
	t.total.bytes += now.bytes - since.bytes
	t.last = now
}

// seed notes that the next counter that is read begins with the total.
func (t *tally) seed() { t.last = t.total }
