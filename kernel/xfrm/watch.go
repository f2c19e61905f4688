package xfrm

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// eventQueue is how many decoded events wait for a slow consumer before they
// wait in the socket.
const eventQueue = 1024

// Watch reports changes of the tables in the order in which the kernel made
// them, until ctx ends; then it closes the channel. When it returns, the
// socket has joined its groups: a Dump that begins afterwards misses nothing
// that is not announced.
//
// Where events are lost or a change is not announced item by item, the channel
// carries an EventResync. What was queued at that moment is dropped: it is
// older than the dump that has to follow. A channel closed before ctx ends
// means that the socket failed; watch and dump again.
//
// Socket policies, larval SAs and per-packet counters are not announced.
func (k *Kernel) Watch(ctx context.Context) (<-chan sadb.Event, error) {
	sock, err := k.openEvents()
	if err != nil {
		return nil, fmt.Errorf("watch kernel: %w", err)
	}
	w := &watcher{
		k: k, sock: sock, decoder: newDecoder(k.names.Name),
		events: make(chan sadb.Event, eventQueue),
	}
	go w.run(ctx)
	return w.events, nil
}

// openEvents opens a socket that hears all changes.
func (k *Kernel) openEvents() (*netlink.Socket, error) {
	sock, err := k.ns.Open(unix.NETLINK_XFRM, k.eventBuffer, 0,
		groupSA, groupPolicy, groupExpire, groupMigrate, groupMapping)
	if err != nil || !k.skipOwn {
		return sock, err
	}
	if err := sock.SkipFrom(k.pid); err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	return sock, nil
}

// Resyncs returns how often events were lost or not itemised since New.
func (k *Kernel) Resyncs() uint64 { return k.resyncs.Load() }

type watcher struct {
	k       *Kernel
	sock    *netlink.Socket
	decoder *decoder
	events  chan sadb.Event
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.events)
	stop := context.AfterFunc(ctx, w.sock.Interrupt)
	defer func() {
		stop()
		_ = w.sock.Close()
	}()
	for {
		datagram, err := w.sock.Recv()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.ENOBUFS):
			stop()
			ok := w.overrun(ctx)
			stop = context.AfterFunc(ctx, w.sock.Interrupt)
			if !ok {
				return
			}
			continue
		case err != nil:
			w.k.log.Error("kernel events end", "err", err)
			return
		}
		if !w.tell(ctx, datagram) {
			return
		}
	}
}

// tell emits the events of a datagram and overwrites it, as it may hold keys. It
// reports whether ctx goes on.
func (w *watcher) tell(ctx context.Context, datagram []byte) bool {
	defer clear(datagram)
	now := w.k.now().Unix()
	for rest := netlink.Messages(datagram); ; {
		m, ok := rest.Next()
		if !ok {
			return true
		}
		ev, ok, err := w.decoder.event(m, w.k.pid, now)
		if err != nil {
			w.k.log.Warn("kernel event not understood", "type", m.Type, "err", err)
			ev, ok = sadb.Event{Kind: sadb.EventResync, Reason: "event not understood"}, true
		}
		if ok && !w.emit(ctx, ev) {
			return false
		}
	}
}

// overrun asks for a dump. What is queued is older than that dump, and reading
// it all would take longer than anything else, so a new socket takes the place
// of the old one; it is open before the old one closes, so that nothing is
// missed.
func (w *watcher) overrun(ctx context.Context) bool {
	sock, err := w.k.openEvents()
	if err != nil {
		w.k.log.Error("kernel events end", "err", err)
		return false
	}
	_ = w.sock.Close()
	w.sock = sock
	w.k.log.Warn("kernel events lost")
	return w.emit(ctx, sadb.Event{Kind: sadb.EventResync, Reason: "events lost"})
}

func (w *watcher) emit(ctx context.Context, ev sadb.Event) bool {
	if ev.Kind == sadb.EventResync {
		w.k.resyncs.Add(1)
	}
	select {
	case w.events <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}
