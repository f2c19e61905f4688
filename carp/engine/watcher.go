package engine

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// When interfaces are looked at.
const (
	lookPause = 10 * time.Millisecond  // between two looks at one, however often it changes
	lookAgain = 200 * time.Millisecond // after one that did not tell all
	lookIdle  = time.Second            // while an instance cannot work on the interface
)

// watcher tells the engine when interfaces or addresses change. Of one goroutine.
type watcher struct {
	e    *Engine
	sock *nl.NetlinkSocket
	seen map[*port]*lastLook
}

// lastLook is the latest look at a port.
type lastLook struct {
	at    time.Time
	index int       // of the interface, 0 if it was not there
	due   time.Time // of the next look, zero: when something happens
	blind bool      // it did not tell all
}

func newWatcher(e *Engine) (*watcher, error) {
	w := &watcher{e: e, seen: make(map[*port]*lastLook)}
	for _, p := range e.ports { // fixed for the life of the engine
		w.seen[p] = new(lastLook)
	}
	return w, w.subscribe()
}

func (w *watcher) subscribe() (err error) {
	w.sock, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR,
		unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	return nil
}

// run reads until ctx ends. Whatever goes wrong leads to a new subscription and
// a full look, as after an overflow.
func (w *watcher) run(ctx context.Context) {
	w.wantAll(time.Now()) // what has changed since the start was not heard
	for ctx.Err() == nil {
		if w.e.again.Swap(false) {
			w.wantAll(time.Now())
		}
		// A timeout, so that the end of ctx is noticed.
		wait := min(w.look(time.Now()), 200*time.Millisecond)
		limit := unix.NsecToTimeval(int64(max(wait, time.Millisecond)))
		_ = w.sock.SetReceiveTimeout(&limit)
		msgs, _, err := w.sock.Receive()
		switch err {
		case nil:
		case unix.EAGAIN, unix.EINTR:
			continue
		default:
			w.sock.Close()
			for ctx.Err() == nil && w.subscribe() != nil {
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
			w.wantAll(time.Now())
			w.e.post(func(time.Duration) { w.e.lookAtConfigured() })
			continue
		}
		for _, m := range msgs {
			w.heard(m.Header.Type, m.Data)
		}
	}
	w.sock.Close()
}

// heard takes a message of the kernel. Most are about interfaces that are none of
// ours: of containers, of users who dial in.
func (w *watcher) heard(kind uint16, data []byte) {
	gone, ours := w.e.ownAddress(kind, data)
	switch {
	case ours.IsValid() && data[2]&unix.IFA_F_PERMANENT != 0:
		// Configured by the system: perhaps the source of the owner.
		w.e.post(func(time.Duration) { w.e.lookAtConfigured() })
	case gone:
		w.e.restore(ours)
		return
	case ours.IsValid(): // our own renewal
		return
	}
	index, name, ok := subject(kind, data)
	for p, l := range w.seen {
		if !ok || index == l.index || name == p.Device {
			w.want(p, time.Now())
		}
	}
}

// subject returns what interface a message is about; the name is that of a message
// about the interface itself.
func subject(kind uint16, data []byte) (index int, name string, ok bool) {
	switch kind {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(data) < unix.SizeofIfAddrmsg {
			return 0, "", false
		}
		return int(nl.DeserializeIfAddrmsg(data).Index), "", true
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(data) < unix.SizeofIfInfomsg {
			return 0, "", false
		}
		attrs, err := nl.ParseRouteAttr(data[unix.SizeofIfInfomsg:])
		if err != nil {
			return 0, "", false
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.IFLA_IFNAME {
				name = unix.ByteSliceToString(a.Value)
			}
		}
		return int(nl.DeserializeIfInfomsg(data).Index), name, true
	}
	return 0, "", false
}

// want has a port looked at, soon.
func (w *watcher) want(p *port, now time.Time) {
	l := w.seen[p]
	if at := l.at.Add(lookPause); at.After(now) {
		now = at
	}
	if l.due.IsZero() || now.Before(l.due) {
		l.due = now
	}
}

func (w *watcher) wantAll(now time.Time) {
	for p := range w.seen {
		w.want(p, now)
	}
}

// look looks at what is due, has the engine's thread take over the result, and
// returns for how long there is nothing to look at then.
func (w *watcher) look(now time.Time) time.Duration {
	wait := lookIdle
	for p, l := range w.seen {
		if l.due.IsZero() && p.idle.Load() {
			l.due = l.at.Add(lookIdle)
		}
		if !l.due.IsZero() && !now.Before(l.due) {
			st, err := w.e.probe(p.Device)
			l.at, l.due = now, time.Time{}
			if err != nil {
				l.due = now.Add(lookAgain)
				if !l.blind {
					w.e.say(slog.LevelWarn, "interface cannot be read, what was known of it stands",
						"interface", p.Device, "err", err)
				}
			}
			l.blind = err != nil
			if !st.Unknown {
				l.index = st.Index
			}
			w.e.post(func(time.Duration) {
				changed := p.Index != st.Index && !st.Unknown
				w.e.apply(p, st)
				if changed {
					w.e.keep()
				}
			})
		}
		if !l.due.IsZero() {
			wait = min(wait, l.due.Sub(now))
		}
	}
	return wait
}
