package doctor

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/api"
	"sasyncd/carp/packet"
)

// maxListen bounds how long doctor listens.
const maxListen = 4 * time.Second

// listen opens ordinary raw sockets where a master should be heard, and tells
// which heard one. Without the privilege it tells nothing.
func listen(ctx context.Context, groups []api.GroupState) map[string]bool {
	out := make(map[string]bool)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, g := range groups {
		if g.State != api.StateBackup {
			continue
		}
		for _, in := range g.Instances {
			for _, r := range in.Routers {
				if r.Family != "ipv4" || r.Received == 0 {
					continue
				}
				device, limit := in.Interface, min(time.Duration(r.DownMS)*time.Millisecond, maxListen)
				wg.Go(func() {
					heard, err := hears(ctx, device, limit)
					if err != nil {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					out[device] = out[device] || heard
				})
			}
		}
	}
	wg.Wait()
	return out
}

// hears reports whether a raw socket gets an advertisement within limit.
func hears(ctx context.Context, device string, limit time.Duration) (bool, error) {
	l, err := net.InterfaceByName(device)
	if err != nil {
		return false, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, packet.Protocol)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if err := unix.BindToDevice(fd, device); err != nil {
		return false, err
	}
	mreq := unix.IPMreqn{Multiaddr: packet.Group4().As4(), Ifindex: int32(l.Index)}
	if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &mreq); err != nil {
		return false, err
	}
	if at, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(at)-time.Second)
	}
	wait := unix.NsecToTimeval(int64(max(limit, time.Millisecond)))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return false, err
	}
	_, err = unix.Read(fd, make([]byte, 1500))
	return err == nil, nil
}
