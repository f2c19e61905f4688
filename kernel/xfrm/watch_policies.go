package xfrm

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// WatchPolicies tells that the SPD may have changed, whoever changed it, until ctx ends;
// then it closes the channel. One value stands for any number of changes. When it
// returns, the socket has joined its group: Policies that are read afterwards miss
// nothing that is not announced. It hears no expiry of a policy.
//
// A channel closed before ctx ends means that the socket failed; watch and read again.
func (k *Kernel) WatchPolicies(ctx context.Context) (<-chan struct{}, error) {
	sock, err := k.ns.Open(unix.NETLINK_XFRM, k.eventBuffer, 0, groupPolicy)
	if err != nil {
		return nil, fmt.Errorf("watch policies: %w", err)
	}
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		defer sock.Close()
		defer context.AfterFunc(ctx, sock.Interrupt)()
		for {
			_, err := sock.Recv()
			if ctx.Err() != nil {
				return
			}
			// A socket that is full has lost changes, which is a change.
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				k.log.Error("events of policies end", "err", err)
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes, nil
}
