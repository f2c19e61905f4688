package lab

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// T is what package lab needs of a test; *testing.T is one, and a program can
// bring its own.
type T interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Cleanup(func())
	Context() context.Context
}

// Net is a network of nodes and switches.
type Net struct {
	t      T
	fabric *Node
	nodes  []*Node

	secrets secrets // that no daemon may print
}

// New returns an empty network, taken down when t ends.
func New(t T) *Net {
	t.Helper()
	n := &Net{t: t}
	n.fabric = n.newNode("fabric")
	return n
}

// Node is a machine: a network namespace, and the processes started in it.
type Node struct {
	Name string

	t      T
	net    *Net
	ns     netns.NsHandle
	nl     *netlink.Handle
	starts chan func()
	ports  []*Port
	procs  []*Daemon
	dir    string
}

// Node adds a machine that forwards nothing and has no duplicate address
// detection, no router advertisements, no redirects and no reverse path filter.
func (n *Net) Node(name string) *Node {
	n.t.Helper()
	nd := n.newNode(name)
	n.nodes = append(n.nodes, nd)
	return nd
}

// Fabric is the namespace that holds the switches.
func (n *Net) Fabric() *Node { return n.fabric }

// Nodes returns the machines in the order in which they were added.
func (n *Net) Nodes() []*Node { return n.nodes }

func (n *Net) newNode(name string) *Node {
	n.t.Helper()
	nd := &Node{Name: name, t: n.t, net: n, starts: make(chan func())}
	ready := make(chan error)
	go nd.serveStarts(ready)
	if err := <-ready; err != nil {
		n.t.Fatalf("make node %s: %v", name, err)
	}
	n.t.Cleanup(func() {
		close(nd.starts)
		nd.nl.Close()
		nd.ns.Close()
	})
	nd.sysctls(
		"net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0",
		"net/ipv4/conf/all/send_redirects=0", "net/ipv4/conf/default/send_redirects=0",
		"net/ipv4/conf/all/accept_redirects=0", "net/ipv4/conf/default/accept_redirects=0",
		"net/ipv6/conf/all/accept_redirects=0", "net/ipv6/conf/default/accept_redirects=0",
		"net/ipv6/conf/all/accept_dad=0", "net/ipv6/conf/default/accept_dad=0",
		"net/ipv6/conf/default/dad_transmits=0",
		"net/ipv6/conf/all/accept_ra=0", "net/ipv6/conf/default/accept_ra=0",
		"net/ipv6/conf/default/router_solicitations=0",
	)
	lo, err := nd.nl.LinkByName("lo")
	if err == nil {
		err = nd.nl.LinkSetUp(lo)
	}
	if err != nil {
		n.t.Fatalf("bring up lo of %s: %v", name, err)
	}
	return nd
}

// serveStarts owns the thread that made the namespace. Processes are started
// on it, because one that asks for a signal at its parent's death gets it when
// the thread that started it ends. The thread is never unlocked, so it ends
// with this goroutine.
func (nd *Node) serveStarts(ready chan<- error) {
	runtime.LockOSThread()
	err := func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace (root is needed): %w", err)
		}
		if nd.ns, err = netns.Get(); err != nil {
			return fmt.Errorf("open the namespace: %w", err)
		}
		nd.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_XFRM)
		return err
	}()
	ready <- err
	if err != nil {
		return
	}
	for f := range nd.starts {
		f()
	}
}

// onStarter runs f on the thread that starts processes and waits for it.
func (nd *Node) onStarter(f func() error) error {
	done := make(chan error)
	nd.starts <- func() { done <- f() }
	return <-done
}

// Do calls f on a thread inside the node and waits for it. Sockets that f opens
// stay inside when used elsewhere. f must not end the test, nor start a process
// (see [Node.Start]) that outlives it.
func (nd *Node) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: a thread that was elsewhere is not given back
		if err := netns.Set(nd.ns); err != nil {
			done <- fmt.Errorf("enter node %s: %w", nd.Name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Sysctl writes "path=value" settings, path below /proc/sys.
func (nd *Node) Sysctl(settings ...string) {
	nd.t.Helper()
	nd.sysctls(settings...)
}

func (nd *Node) sysctls(settings ...string) {
	nd.t.Helper()
	err := nd.Do(func() error {
		for _, s := range settings {
			p, v, _ := strings.Cut(s, "=")
			if err := os.WriteFile("/proc/sys/"+p, []byte(v), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		nd.t.Fatalf("set sysctl on %s: %v", nd.Name, err)
	}
}

// Forward makes the node a router for IPv4 and IPv6.
func (nd *Node) Forward() {
	nd.t.Helper()
	nd.sysctls("net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1", "net/ipv6/conf/default/forwarding=1")
}

// Netlink returns a handle for rtnetlink and xfrm inside the node.
func (nd *Node) Netlink() *netlink.Handle { return nd.nl }

// Net returns the network that the node is part of.
func (nd *Node) Net() *Net { return nd.net }
