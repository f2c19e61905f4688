package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	a = netip.MustParseAddr("10.0.0.1")
	b = netip.MustParseAddr("10.0.0.2")
)

func pair(t *testing.T, n *Network) (near, far net.Conn) {
	t.Helper()
	l, err := n.Listen(netip.AddrPortFrom(b, 500))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = n.Dialer(a)(t.Context(), "10.0.0.2:500"); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	if near.LocalAddr().String() != far.RemoteAddr().String() || far.LocalAddr().String() != "10.0.0.2:500" {
		t.Fatalf("addresses %s %s", near.LocalAddr(), far.RemoteAddr())
	}
	return near, far
}

func TestLatencyAndOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(10 * time.Millisecond)
		near, far := pair(t, n)
		start := time.Now()
		for _, s := range []string{"one ", "two ", "three"} {
			if _, err := near.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		near.Close()
		got, err := io.ReadAll(far)
		if string(got) != "one two three" || err != nil || time.Since(start) != 10*time.Millisecond {
			t.Errorf("%q, %v after %v", got, err, time.Since(start))
		}
		if _, err := far.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed end: %v", err)
		}
		far.Close()
		if n.Connections() != 0 {
			t.Errorf("%d connections are left", n.Connections())
		}
	})
}

func TestCutLinkIsABlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(time.Millisecond)
		near, far := pair(t, n)
		n.Cut(b, a)
		if _, err := near.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Dialer(a)(ctx, "10.0.0.2:500"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial over a cut link: %v", err)
		}
		buf := make([]byte, 10)
		far.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := far.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read over a cut link: %v", err)
		}
		far.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Hour, func() { n.Heal(a, b) })
		if k, err := far.Read(buf); string(buf[:k]) != "late" || err != nil {
			t.Errorf("after healing: %q, %v", buf[:k], err)
		}
	})
}

func TestFullBufferHoldsTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pair(t, New(0))
		near.SetWriteDeadline(time.Now().Add(time.Second))
		k, err := near.Write(make([]byte, buffer+1))
		if k != buffer || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d, %v", k, err)
		}
		near.SetWriteDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { io.ReadFull(far, make([]byte, 10)) })
		if k, err := near.Write(make([]byte, 10)); k != 10 || err != nil {
			t.Errorf("wrote %d, %v", k, err)
		}
		near.Close()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read from a closed end: %v", err)
		}
	})
}

func TestCrashIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(time.Millisecond)
		near, far := pair(t, n)
		far.Write([]byte("lost"))
		n.Crash(b)
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the crashed end reads: %v", err)
		}
		if _, err := far.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the crashed end writes: %v", err)
		}
		if _, err := near.Write([]byte("anybody?")); err != nil {
			t.Errorf("the other end notices: %v", err)
		}
		near.SetReadDeadline(time.Now().Add(time.Hour))
		if k, err := near.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the other end reads %d, %v", k, err)
		}
		near.Close()
		if n.Connections() != 0 {
			t.Error("the connection is not forgotten")
		}
		pair(t, n) // the address can be used again
	})
}
