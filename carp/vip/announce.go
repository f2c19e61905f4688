package vip

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
)

// rounds is how often each announcement of a burst is sent.
const rounds = 3

// Announcer tells neighbours where addresses live now. Safe for concurrent use.
type Announcer struct {
	fd  int
	mu  sync.Mutex
	buf []byte

	send   func(index int, frame []byte) error
	routes func(index int) bool
}

// NewAnnouncer opens a socket in the network namespace of the calling thread.
func NewAnnouncer() (*Announcer, error) {
	// Protocol 0: the socket only sends.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	return &Announcer{
		fd: fd, buf: make([]byte, 0, 128), routes: routes,
		send: func(index int, frame []byte) error {
			return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
		},
	}, nil
}

// Close closes the socket.
func (n *Announcer) Close() error { return unix.Close(n.fd) }

// Announce sends a burst of gratuitous ARP requests and unsolicited neighbour
// advertisements, address by address, several times over.
func (n *Announcer) Announce(as []Address) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	routers := make(map[int]bool) // by interface
	for _, a := range as {
		if _, known := routers[a.Index]; !known && a.IP.Is6() {
			routers[a.Index] = n.routes(a.Index)
		}
	}
	for round := range rounds {
		for _, a := range as {
			b := n.buf[:0]
			if a.IP.Is4() {
				b = packet.AppendGratuitousARP(b, a.MAC, a.IP)
			} else {
				b = packet.AppendUnsolicitedNA(b, a.MAC, a.IP, routers[a.Index])
			}
			err := n.send(a.Index, b)
			if err != nil && round == 0 {
				errs = append(errs, fmt.Errorf("announce %v: %w", a.IP, err))
			}
		}
	}
	return errors.Join(errs...)
}

// routes reports whether the node forwards IPv6 from the interface; what it
// says in neighbour advertisements must agree with what the kernel answers.
func routes(index int) bool {
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return true
	}
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + l.Attrs().Name + "/forwarding")
	if err != nil {
		return true
	}
	return strings.TrimSpace(string(b)) != "0"
}
