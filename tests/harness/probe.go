package harness

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// probeESP returns nil when this kernel lets us add an AEAD SA. It asks by
// adding one, in a namespace that vanishes afterwards: module lists say nothing
// about what is built in.
func probeESP() error {
	return inScratchNamespace(func(h *netlink.Handle) error {
		return addSA(h, gcm128, false, false)
	})
}

// warmCiphers adds one SA of each kind, so that no test pays for loading
// modules, which takes seconds in a guest.
func warmCiphers() error {
	return inScratchNamespace(func(h *netlink.Handle) error {
		for _, esn := range []bool{false, true} {
			for _, v6 := range []bool{false, true} {
				for _, a := range []algorithm{gcm128, gcm256, chacha, cbcSHA256, cbcSHA1} {
					if err := addSA(h, a, esn, v6); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// inScratchNamespace calls f on a thread in a network namespace of its own.
// The thread is never unlocked, so it and the namespace end with the goroutine.
func inScratchNamespace(f func(*netlink.Handle) error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("make a network namespace: %w", err)
			}
			h, err := netlink.NewHandle(unix.NETLINK_XFRM)
			if err != nil {
				return fmt.Errorf("open xfrm netlink socket: %w", err)
			}
			defer h.Close()
			return f(h)
		}()
	}()
	return <-done
}

type algorithm struct {
	name      string
	keyBytes  int
	icvBits   int // of an AEAD; 0 for a cipher with separate authentication
	auth      string
	authBytes int
	truncBits int
}

var (
	gcm128    = algorithm{name: "rfc4106(gcm(aes))", keyBytes: 20, icvBits: 128}
	gcm256    = algorithm{name: "rfc4106(gcm(aes))", keyBytes: 36, icvBits: 128}
	chacha    = algorithm{name: "rfc7539esp(chacha20,poly1305)", keyBytes: 36, icvBits: 128}
	cbcSHA256 = algorithm{name: "cbc(aes)", keyBytes: 32, auth: "hmac(sha256)", authBytes: 32, truncBits: 128}
	cbcSHA1   = algorithm{name: "cbc(aes)", keyBytes: 16, auth: "hmac(sha1)", authBytes: 20, truncBits: 96}
)

func addSA(h *netlink.Handle, a algorithm, esn, v6 bool) error {
	s := &netlink.XfrmState{
		Src: net.IPv4(192, 0, 2, 1), Dst: net.IPv4(192, 0, 2, 2),
		Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL,
		ESN: esn, ReplayWindow: 32,
	}
	if v6 {
		s.Src, s.Dst = net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::2")
	}
	// Keys of scratch SAs that never carry a packet: any bytes will do.
	key := make([]byte, a.keyBytes)
	if a.icvBits != 0 {
		s.Aead = &netlink.XfrmStateAlgo{Name: a.name, Key: key, ICVLen: a.icvBits}
	} else {
		s.Crypt = &netlink.XfrmStateAlgo{Name: a.name, Key: key}
		s.Auth = &netlink.XfrmStateAlgo{Name: a.auth, Key: make([]byte, a.authBytes), TruncateLen: a.truncBits}
	}
	for spi := 0x1000; ; spi++ {
		s.Spi = spi
		err := h.XfrmStateAdd(s)
		if err == nil {
			return nil
		}
		if errors.Is(err, syscall.EEXIST) && spi < 0x1100 {
			continue
		}
		return fmt.Errorf("add an SA with %s: %w", a.name, err)
	}
}
