package netlink

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace remembers the network namespace of the thread that made it, so
// that sockets opened later end up in the same one. A netlink socket stays in
// the namespace in which it was opened, whoever uses it.
type Namespace struct{ fd int }

// threadNS is the namespace of the calling thread; the main thread's may
// differ.
const threadNS = "/proc/thread-self/ns/net"

// CurrentNamespace returns the network namespace of the calling thread.
func CurrentNamespace() (*Namespace, error) {
	fd, err := unix.Open(threadNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", threadNS, err)
	}
	return &Namespace{fd: fd}, nil
}

// Close forgets the namespace; nothing can be opened in it any more.
func (n *Namespace) Close() { _ = unix.Close(n.fd) }

// Do runs f in the namespace. A daemon that never leaves its namespace needs
// no privilege for that: the switch is made only where the calling thread is
// elsewhere, and then on a thread that is thrown away afterwards.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		var want, have unix.Stat_t
		err := unix.Fstat(n.fd, &want)
		if err == nil {
			err = unix.Stat(threadNS, &have)
		}
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("compare network namespaces: %w", err)
			return
		}
		if want.Ino == have.Ino && want.Dev == have.Dev {
			defer runtime.UnlockOSThread()
		} else if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		// A thread that has moved stays locked and ends with this goroutine.
		done <- f()
	}()
	return <-done
}

// Open opens a socket in the namespace; see OpenSocket.
func (n *Namespace) Open(protocol, rcvbuf, sndbuf int, groups ...int) (sock *Socket, err error) {
	err = n.Do(func() error {
		sock, err = OpenSocket(protocol, rcvbuf, sndbuf, groups...)
		return err
	})
	return sock, err
}
