package xfrm

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/link"
	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

const (
	requestRecvBuffer = 8 << 20
	requestSendBuffer = 4 << 20
	// eventRecvBuffer holds some 25,000 announced SAs; the kernel doubles it.
	eventRecvBuffer = 32 << 20
)

// Options configures a Kernel. The zero value is fine.
type Options struct {
	// Logger gets what cannot be returned. Default: discard.
	Logger *slog.Logger
	// Now is the wall clock that SA dates are relative to. Default: time.Now.
	Now func() time.Time
	// EventBuffer is the size in bytes of the buffer in which announcements
	// wait for Watch. Default: 32 MiB, which the kernel doubles.
	EventBuffer int
	// SkipOwn leaves out of Watch what this Kernel's own Apply has changed. The
	// kernel then does not even wake the watcher: a standby that installs
	// thousands of SAs spends a good part of its time on hearing of them.
	SkipOwn bool
}

// Kernel is the XFRM subsystem of one network namespace. Its methods are safe
// for concurrent use; Apply and Dump do not wait for each other.
type Kernel struct {
	log *slog.Logger
	now func() time.Time
	ns  *netlink.Namespace

	eventBuffer int
	skipOwn     bool

	// pid is the nlmsg_pid of all our requests.
	pid uint32
	// write carries changes, read dumps: a long dump must not hold back a
	// change of role.
	// scan is apart from read because a scan waits for whoever looks at it, who
	// may want a dump meanwhile.
	write, read, scan *netlink.Requester
	names             *link.Names
	// applying has an Apply end before the next begins.
	applying sync.Mutex
	encoder  encoder
	tags     tags
	features sadb.Features
	resyncs  atomic.Uint64
	// scanSeed makes fingerprints worthless outside this process.
	scanSeed maphash.Seed
}

// New opens the network namespace of the calling thread. Everything the Kernel
// does later happens there, on whatever thread.
//
// It dumps the policies once: to learn the indexes in use, and to find out
// whether it may. Without CAP_NET_ADMIN the error is fs.ErrPermission.
func New(opt Options) (*Kernel, error) {
	k := &Kernel{log: opt.Logger, now: opt.Now, eventBuffer: opt.EventBuffer, skipOwn: opt.SkipOwn,
		scanSeed: maphash.MakeSeed()}
	if k.eventBuffer <= 0 {
		k.eventBuffer = eventRecvBuffer
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if k.now == nil {
		k.now = time.Now
	}
	// Port numbers, which other programs use here, are process ids or
	// negative; 0 is the kernel itself.
	k.pid = 0x70000000 | rand.Uint32()>>8
	if err := k.open(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if err := k.learnTags(context.Background()); err != nil {
		return nil, errors.Join(fmt.Errorf("open kernel: %w", err), k.Close())
	}
	if err := k.learnFeatures(context.Background()); err != nil {
		return nil, errors.Join(fmt.Errorf("open kernel: %w", err), k.Close())
	}
	return k, nil
}

func (k *Kernel) open() (err error) {
	if k.ns, err = netlink.CurrentNamespace(); err != nil {
		return err
	}
	open := func() (*netlink.Socket, error) {
		return k.ns.Open(unix.NETLINK_XFRM, requestRecvBuffer, requestSendBuffer)
	}
	openScan := func() (*netlink.Socket, error) {
		sock, err := open()
		if err == nil {
			sock.Buffer(scanBuffer)
		}
		return sock, err
	}
	if k.write, err = netlink.NewRequester(open, k.pid); err != nil {
		return err
	}
	if k.read, err = netlink.NewRequester(open, k.pid); err != nil {
		return err
	}
	if k.scan, err = netlink.NewRequester(openScan, k.pid); err != nil {
		return err
	}
	k.write.Reserve(batchBytes + netlink.MaxMessage)
	if err := k.ns.Do(func() (err error) { k.names, err = link.OpenNames(); return err }); err != nil {
		return err
	}
	k.encoder.ifindex = k.names.Index
	return nil
}

// Close releases the sockets. Nothing in the kernel changes. Watches go on
// until their context ends.
func (k *Kernel) Close() error {
	var errs []error
	for _, r := range []*netlink.Requester{k.write, k.read, k.scan} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	if k.names != nil {
		errs = append(errs, k.names.Close())
	}
	if k.ns != nil {
		k.ns.Close()
	}
	return errors.Join(errs...)
}

// Dump returns all SAs and policies, in the kernel's order: SAs newest first.
// Policies of sockets, larval SAs and the kernel's own helper SAs are
// included; sadb tells them apart.
//
// SAs come before policies, so that a key manager that replaces an SA and its
// policy while the dump runs is seen with the policy's newer half.
func (k *Kernel) Dump(ctx context.Context) (*sadb.Snapshot, error) {
	snap := new(sadb.Snapshot)
	d, now := newDecoder(k.names.Name), k.now().Unix()
	var err error
	snap.SAs, err = netlink.Collect(ctx, k.read, msgGetSA, nil, func(m netlink.Message) (*sadb.SA, bool, error) {
		if m.Type != msgNewSA {
			return nil, false, nil
		}
		sa, err := d.sa(m.Payload, now)
		return sa, true, err
	})
	if err != nil {
		return nil, fmt.Errorf("dump sas: %w", err)
	}
	if snap.Policies, err = k.policies(ctx, d, now); err != nil {
		return nil, err
	}
	return snap, nil
}

// Policies returns all policies, as Dump does.
func (k *Kernel) Policies(ctx context.Context) ([]*sadb.Policy, error) {
	return k.policies(ctx, newDecoder(k.names.Name), k.now().Unix())
}

func (k *Kernel) policies(ctx context.Context, d *decoder, now int64) (list []*sadb.Policy, err error) {
	list, err = netlink.Collect(ctx, k.read, msgGetPolicy, nil, func(m netlink.Message) (*sadb.Policy, bool, error) {
		if m.Type != msgNewPolicy {
			return nil, false, nil
		}
		p, err := d.policy(m.Payload, now)
		return p, true, err
	})
	if err != nil {
		return nil, fmt.Errorf("dump policies: %w", err)
	}
	return list, nil
}
