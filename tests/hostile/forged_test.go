package hostile

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/tests/harness/lab"
)

// adverts records what gw1 sends on both of its networks, and sends it again, and
// forgeries of all kinds, and what real daemons were recorded to send.
func (a *arena) adverts() {
	group := netip.MustParseAddr("224.0.0.18")
	var forged [][]byte
	for _, x := range []struct {
		dev      string
		id       uint8
		src, vip netip.Addr
	}{{"wan0", 10, a.Members[0].OutAddr, lab.VIPOut}, {"lan0", 11, a.Members[0].InAddr, lab.VIPIn}} {
		frames := a.record(x.dev, 8)
		forged = nil
		for _, priority := range []uint8{0, 1, 200, 254, 255} {
			for _, src := range []netip.Addr{x.src, netip.MustParseAddr("192.0.2.66")} {
				v := packet.VRRP{Version: 3, ID: x.id, Priority: priority, Interval: 250 * time.Millisecond,
					Addrs: []netip.Addr{x.vip}}
				for _, trailer := range [][]byte{nil, bytes.Repeat([]byte{7}, 40)} {
					v.Trailer = trailer
					body, err := v.Append(nil, src, group)
					if err != nil {
						a.t.Fatal(err)
					}
					f := packet.Frame{Dst: packet.GroupMAC(group), Src: packet.VirtualMAC(x.id, false), SrcIP: src,
						DstIP: group, TTL: 255, Proto: packet.Protocol, Payload: body}
					b, err := f.Append(nil)
					if err != nil {
						a.t.Fatal(err)
					}
					forged = append(forged, b)
				}
			}
		}
		forged = append(forged, captured(a.t)...)
		// Also with bits that fell over.
		r := rand.New(rand.NewPCG(5, 5))
		for _, f := range frames {
			b := slices.Clone(f)
			b[14+r.IntN(len(b)-14)] ^= 1 << r.IntN(8)
			forged = append(forged, b)
		}
		a.inject(x.dev, append(slices.Clone(frames), forged...), 60)
	}
}

// captured are the advertisements of ucarp, keepalived and FRR that the codec is
// tested with.
func captured(t *testing.T) (frames [][]byte) {
	b, err := os.ReadFile("../../carp/packet/testdata/advertisements.hex")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if f, err := hex.DecodeString(fields[len(fields)-1]); err == nil && len(f) > 40 {
			frames = append(frames, f)
		}
	}
	if len(frames) < 10 {
		t.Fatalf("%d recorded advertisements", len(frames))
	}
	return frames
}

func (a *arena) packetSocket(dev string, proto uint16) (fd int, err error) {
	err = a.mallory.Do(func() error {
		l, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		limit := unix.NsecToTimeval(int64(time.Second))
		return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto<<8 | proto>>8, Ifindex: l.Index}))
	})
	return fd, err
}

func (a *arena) record(dev string, n int) (frames [][]byte) {
	fd, err := a.packetSocket(dev, unix.ETH_P_ALL)
	if err != nil {
		a.t.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 2048)
	for end := time.Now().Add(15 * time.Second); len(frames) < n && time.Now().Before(end); {
		k, err := unix.Read(fd, buf)
		if err != nil {
			continue
		}
		var f packet.Frame
		if f.Parse(buf[:k]) == nil && f.Proto == packet.Protocol {
			frames = append(frames, slices.Clone(buf[:k]))
		}
	}
	if len(frames) < n {
		a.t.Fatalf("recorded %d advertisements", len(frames))
	}
	return frames
}

func (a *arena) inject(dev string, frames [][]byte, times int) {
	fd, err := a.packetSocket(dev, 0)
	if err != nil {
		a.t.Fatal(err)
	}
	defer unix.Close(fd)
	for range times {
		for _, f := range frames {
			if _, err := unix.Write(fd, f); err != nil && !errors.Is(err, unix.ENOBUFS) {
				a.t.Errorf("send a frame of %d bytes: %v", len(f), err)
				return
			}
		}
	}
}
