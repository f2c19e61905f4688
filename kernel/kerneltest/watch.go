package kerneltest

import (
	"context"
	"slices"

	"sasyncd/sync/sadb"
)

// watcher is one socket that has joined the groups. Its queue is guarded by
// the tables' mutex; a goroutine of its own passes events on, so that whoever
// changes the tables never waits for a consumer.
type watcher struct {
	process int
	queue   []sadb.Event
	limit   int // 0: no limit
	lost    bool
	wake    chan struct{}
}

// Watch reports changes from now on until ctx ends; then it closes the channel.
func (k *Kernel) Watch(ctx context.Context) (<-chan sadb.Event, error) {
	return k.watch(ctx, 0)
}

// WatchLimited is Watch through a socket whose buffer holds only limit events:
// further ones are lost until it is empty, and an EventResync follows.
func (k *Kernel) WatchLimited(ctx context.Context, limit int) (<-chan sadb.Event, error) {
	return k.watch(ctx, limit)
}

func (k *Kernel) watch(ctx context.Context, limit int) (<-chan sadb.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &watcher{process: k.process, limit: limit, wake: make(chan struct{}, 1)}
	k.mu.Lock()
	k.watchers[w] = struct{}{}
	k.mu.Unlock()
	out := make(chan sadb.Event)
	go k.pump(ctx, w, out)
	return out, nil
}

func (t *tables) pump(ctx context.Context, w *watcher, out chan<- sadb.Event) {
	defer close(out)
	defer func() {
		t.mu.Lock()
		delete(t.watchers, w)
		t.mu.Unlock()
	}()
	for {
		ev, ok := t.pop(w)
		if !ok {
			select {
			case <-w.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case out <- ev:
		case <-ctx.Done():
			return
		}
	}
}

// pop takes the next event. After a loss what was queued is dropped, as the
// real watcher does: it is older than the dump that must follow.
func (t *tables) pop(w *watcher) (ev sadb.Event, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.lost {
		w.lost, w.queue = false, nil
		t.resyncs++
		return sadb.Event{Kind: sadb.EventResync, Reason: "events lost"}, true
	}
	if len(w.queue) == 0 {
		return ev, false
	}
	ev = w.queue[0]
	w.queue = w.queue[1:]
	return ev, true
}

// announce queues ev for every watcher. by is the process that caused it, 0 the
// kernel itself. The caller holds the mutex.
func (t *tables) announce(ev sadb.Event, by int) {
	for w := range t.watchers {
		if w.limit > 0 && len(w.queue) >= w.limit {
			w.lost = true
		}
		if w.lost {
			continue
		}
		e := ev
		e.Own = by == w.process
		if ev.SA != nil { // each watcher decodes its own
			sa := *ev.SA
			sa.Bitmap = slices.Clone(ev.SA.Bitmap)
			e.SA = &sa
		}
		w.queue = append(w.queue, e)
		w.signal()
	}
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Overrun makes every watcher lose what it has not yet read, as if its socket
// had overflowed (ENOBUFS).
func (k *Kernel) Overrun() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for w := range k.watchers {
		w.lost = true
		w.signal()
	}
}

// Announce queues an event that no change of the tables causes, such as
// EventMapping or the EventResync of a MIGRATE.
func (k *Kernel) Announce(ev sadb.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.announce(ev, 0)
}

// Resyncs returns how often events were lost.
func (k *Kernel) Resyncs() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.resyncs
}
