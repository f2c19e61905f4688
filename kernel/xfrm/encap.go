package xfrm

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
)

// Where IKE and ESP in UDP arrive (RFC 7296, RFC 3948 section 2.1).
const (
	ikePort   = 500
	encapPort = 4500
)

// Values of include/uapi/linux/udp.h.
const (
	udpEncap      = 100
	encapESPInUDP = 2
)

// EncapPort holds UDP port 4500 for ESP in UDP while no IKE daemon does for all
// addresses.
//
// The kernel decapsulates ESP in UDP only where a socket on that port says so.
// That socket is the IKE daemon's, and where none runs, tunnels through NAT
// would be dead although all their SAs are there. A socket on the wildcard
// address serves all virtual addresses, those to come included. It reads
// nothing and sends nothing: an IKE message that arrives is dropped in silence,
// as if it were lost.
//
// The socket has SO_REUSEADDR, as those of libreswan have, so such a daemon can
// bind the port at any time. libreswan has a socket for each address that it knew
// when it looked last, and no other: a virtual address that has just come is not
// among them. So the port is held beside it, and its sockets, being for one
// address, get what arrives for that. To a socket for all addresses the next
// [EncapPort.Follow] gives way. A daemon without that option (charon 5.9.8:
// "could not open IPv4 NAT-T socket") cannot have the port while it is held, and
// never tries again. Grace is for its restarts; for the rest start it before
// sasyncd. Methods are for one goroutine.
type EncapPort struct {
	// Grace is for how long the port is left to an IKE daemon that has let it
	// go, as one does that restarts.
	Grace time.Duration

	ns   *netlink.Namespace
	held [2]int       // descriptors for IPv4 and IPv6, -1 for none
	seen [2]time.Time // when somebody else had the port for all addresses
}

// OpenEncapPort prepares to hold the port in the calling thread's namespace.
func OpenEncapPort() (*EncapPort, error) {
	ns, err := netlink.CurrentNamespace()
	if err != nil {
		return nil, err
	}
	return &EncapPort{ns: ns, held: [2]int{-1, -1}}, nil
}

// Close gives the port up.
func (e *EncapPort) Close() {
	e.release(0)
	e.release(1)
	e.ns.Close()
}

// Held reports for which families the port is held.
func (e *EncapPort) Held() (ip4, ip6 bool) { return e.held[0] >= 0, e.held[1] >= 0 }

// Follow holds the port for the families asked for where nobody else does, and
// gives it up elsewhere. It is to be called every second or so.
func (e *EncapPort) Follow(ip4, ip6 bool) error {
	return e.ns.Do(func() error {
		var errs []error
		for i, want := range []bool{ip4, ip6} {
			errs = append(errs, e.follow(i, want))
		}
		return errors.Join(errs...)
	})
}

func (e *EncapPort) follow(i int, want bool) error {
	if !want {
		e.release(i)
		return nil
	}
	others, err := e.others(i, encapPort, true)
	switch {
	case err != nil:
		return err
	case others:
		e.release(i)
		e.seen[i] = time.Now()
		return nil
	case e.held[i] >= 0:
		return nil
	case !e.seen[i].IsZero() && time.Since(e.seen[i]) < e.Grace:
		return nil
	}
	fd, err := bindEncap(i == 1)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil // an IKE daemon was faster
	}
	if err != nil {
		return fmt.Errorf("hold udp port %d: %w", encapPort, err)
	}
	e.held[i] = fd
	return nil
}

func (e *EncapPort) release(i int) {
	if e.held[i] >= 0 {
		_ = unix.Close(e.held[i])
		e.held[i] = -1
	}
}

func bindEncap(ip6 bool) (int, error) {
	family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: encapPort})
	if ip6 {
		family, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: encapPort}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	set := func(level, opt, value int) {
		if err == nil {
			err = unix.SetsockoptInt(fd, level, opt, value)
		}
	}
	set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	set(unix.SOL_SOCKET, unix.SO_RCVBUF, 1) // the smallest there is: nothing is read
	if ip6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	set(unix.IPPROTO_UDP, udpEncap, encapESPInUDP)
	if err == nil {
		err = unix.Bind(fd, addr)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Shut reports whether somebody has the port of IKE, and port 4500 nowhere, for
// a family for which that is held here: an IKE daemon that could not have it.
func (e *EncapPort) Shut() (shut bool, err error) {
	err = e.ns.Do(func() error {
		for i, fd := range e.held {
			if fd < 0 || shut {
				continue
			}
			ike, err := e.others(i, ikePort, false)
			if err != nil {
				return err
			}
			encap, err := e.others(i, encapPort, false)
			if err != nil {
				return err
			}
			shut = ike && !encap
		}
		return nil
	})
	return shut, err
}

// Leave gives the port up for both families, and for Grace leaves it to others.
func (e *EncapPort) Leave() {
	for i := range e.held {
		e.release(i)
		e.seen[i] = time.Now()
	}
}

// others reports whether a socket that is not ours has a port, for any address or
// for all of them. An IPv6 socket may serve IPv4 too, so for IPv4 both count.
func (e *EncapPort) others(i int, port uint16, all bool) (bool, error) {
	files := []string{"udp6"}
	if i == 0 {
		files = []string{"udp", "udp6"}
	}
	mine := make(map[uint64]bool)
	for _, fd := range e.held {
		var st unix.Stat_t
		if fd >= 0 && unix.Fstat(fd, &st) == nil {
			mine[st.Ino] = true
		}
	}
	for _, name := range files {
		found, err := onPort("/proc/thread-self/net/"+name, port, all, mine)
		if found || err != nil && !errors.Is(err, os.ErrNotExist) {
			return found, err
		}
	}
	return false, nil
}

// onPort looks through /proc/net/udp or udp6: a line for each socket with its
// local address and port in hexadecimal and, in the tenth column, its inode.
func onPort(path string, port uint16, all bool, mine map[uint64]bool) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	want := fmt.Sprintf("%04X", port)
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) < 10 {
			continue
		}
		if addr, on, _ := strings.Cut(fields[1], ":"); on != want || all && strings.Trim(addr, "0") != "" {
			continue
		}
		inode, err := strconv.ParseUint(fields[9], 10, 64)
		if err != nil {
			return false, fmt.Errorf("read %s: %w", path, err)
		}
		if !mine[inode] {
			return true, nil
		}
	}
	return false, sc.Err()
}
