package kerneltest

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
)

// EncapPort shows, in the calling test's empty namespace, that the port of ESP in UDP is
// held while nobody else has it, does not keep an IKE daemon from it, and is given up and
// taken again by itself.
func EncapPort(t *testing.T) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	e, err := xfrm.OpenEncapPort()
	must(err)
	defer e.Close()
	follow := func(ip4, ip6, held4, held6 bool) {
		t.Helper()
		must(e.Follow(ip4, ip6))
		if h4, h6 := e.Held(); h4 != held4 || h6 != held6 {
			t.Errorf("asked for %v %v: held %v %v, want %v %v", ip4, ip6, h4, h6, held4, held6)
		}
	}
	follow(false, false, false, false)
	follow(true, true, true, true)
	follow(true, true, true, true)
	follow(true, false, true, false)
	follow(true, true, true, true)

	ike := ikeSocket(t) // binds although the port is held
	follow(true, true, false, true)
	must(unix.Close(ike))
	follow(true, true, true, true)
	follow(false, false, false, false)

	// One with a socket for each address of now (libreswan) does not have those
	// to come, so the port is held beside it.
	one := ikeSocket(t, 127, 0, 0, 1)
	follow(true, true, true, true)
	two := ikeSocket(t, 127, 0, 0, 2)
	follow(true, true, true, true)
	must(errors.Join(unix.Close(one), unix.Close(two)))
	follow(false, false, false, false)

	// A daemon without SO_REUSEADDR that came first is left alone.
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	must(err)
	must(unix.Bind(fd, &unix.SockaddrInet6{Port: 4500}))
	follow(true, true, false, false)
	must(unix.Close(fd))
	follow(true, true, true, true)

	// With grace, a daemon that restarts finds the port free.
	ike = ikeSocket(t)
	follow(true, true, false, true)
	e.Grace = time.Hour
	must(unix.Close(ike))
	follow(true, true, false, true)
	e.Grace = 0
	follow(true, true, true, true)

	// One that was started meanwhile without the option has only the other port.
	shut := func(want bool) {
		t.Helper()
		if got, err := e.Shut(); err != nil || got != want {
			t.Errorf("shut %v, want %v: %v", got, want, err)
		}
	}
	shut(false)
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	must(err)
	must(unix.Bind(fd, &unix.SockaddrInet4{Port: 500}))
	shut(true)
	one = ikeSocket(t, 127, 0, 0, 1) // it has that one, at an address
	shut(false)
	must(unix.Close(one))
	shut(true)
	e.Grace = time.Hour
	e.Leave()
	shut(false)
	follow(true, true, false, false)
	must(unix.Close(fd))
}

// ikeSocket opens the port as IKE daemons do, for an address or for all.
func ikeSocket(t *testing.T, addr ...byte) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := &unix.SockaddrInet4{Port: 4500}
	copy(at.Addr[:], addr)
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, at)); err != nil {
		t.Fatal(err)
	}
	return fd
}
