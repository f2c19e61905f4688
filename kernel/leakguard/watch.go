package leakguard

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
)

// watchBuffer bounds what waits to be read of a change. What is lost is a change as well.
const watchBuffer = 1 << 20

// Watch reports that somebody else has changed the table, or removed it, by a value on the
// channel; several changes may make one value. It does not report what this Filter does,
// nor changes of other tables. When it returns, whatever changes afterwards is reported.
// The channel closes when ctx ends, or earlier when the socket fails.
func (f *Filter) Watch(ctx context.Context) (<-chan struct{}, error) {
	sock, err := f.ns.Open(unix.NETLINK_NETFILTER, watchBuffer, 0, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return nil, fmt.Errorf("watch leak guard: %w", err)
	}
	f.mu.Lock()
	if err := sock.SkipFrom(f.port); err != nil {
		f.mu.Unlock()
		return nil, errors.Join(fmt.Errorf("watch leak guard: %w", err), sock.Close())
	}
	f.watching[sock] = true
	f.mu.Unlock()
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		stop := context.AfterFunc(ctx, sock.Interrupt)
		defer func() {
			stop()
			f.mu.Lock()
			delete(f.watching, sock)
			f.mu.Unlock()
			_ = sock.Close()
		}()
		for {
			datagram, err := sock.Recv()
			switch {
			case errors.Is(err, unix.ENOBUFS): // something was lost
			case err != nil:
				return
			case !concernsAny(datagram):
				continue
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, nil
}

// concernsAny reports whether one of the messages is about the table.
func concernsAny(datagram []byte) bool {
	for rest := netlink.Messages(datagram); ; {
		m, ok := rest.Next()
		if !ok {
			return false
		}
		if concerns(m) {
			return true
		}
	}
}
