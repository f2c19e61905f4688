package election

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/tests/harness/lab"
)

// A host asks the virtual address a thousand times a second; whoever has it
// answers. So what is measured is the address, not forwarding, which goes on
// for as long as a neighbour entry says so.

const (
	echoPort  = 7
	probeEach = time.Millisecond
)

// echo answers datagrams to any address of the node.
func (n *node) echo(b *testing.B) {
	b.Helper()
	var c *net.UDPConn
	err := n.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: echoPort})
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	go func() {
		var buf [64]byte
		for {
			k, from, err := c.ReadFromUDPAddrPort(buf[:])
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(buf[:k], from)
		}
	}()
}

// probe collects the times of answers.
type probe struct {
	mu sync.Mutex
	at []time.Time
}

func startProbe(b *testing.B, host *lab.Node) *probe {
	b.Helper()
	var c *net.UDPConn
	err := host.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", nil) // not connected: any node may answer
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	p := &probe{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	b.Cleanup(func() {
		close(stop)
		c.Close()
		wg.Wait()
	})
	wg.Go(func() {
		t := time.NewTicker(probeEach)
		defer t.Stop()
		to := &net.UDPAddr{IP: net.ParseIP(vip), Port: echoPort}
		for {
			select {
			case <-stop:
				return
			case <-t.C:
				_, _ = c.WriteToUDP([]byte("x"), to)
			}
		}
	})
	wg.Go(func() {
		var buf [64]byte
		for {
			if _, err := c.Read(buf[:]); err != nil {
				select {
				case <-stop:
					return
				default:
					continue // nobody has the address at the moment
				}
			}
			now := time.Now()
			p.mu.Lock()
			p.at = append(p.at, now)
			p.mu.Unlock()
		}
	})
	return p
}

func (p *probe) answers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.at)
}

// gap is the longest time without an answer that ended after from.
func (p *probe) gap(from time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var longest time.Duration
	for i := 1; i < len(p.at); i++ {
		if p.at[i].After(from) {
			longest = max(longest, p.at[i].Sub(p.at[i-1]))
		}
	}
	if n := len(p.at); n > 0 {
		longest = max(longest, time.Since(p.at[n-1]))
	}
	return longest
}

// awaitAdvert returns when an advertisement of the master passes.
func awaitAdvert(b *testing.B, host *lab.Node, master *node, interval time.Duration) {
	b.Helper()
	src, heard := netip.MustParseAddr("10.1.0.11"), false
	err := host.Do(func() error {
		l, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		limit := unix.NsecToTimeval(int64(interval))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			return err
		}
		proto := uint16(unix.ETH_P_IP)
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto<<8 | proto>>8, Ifindex: l.Index}); err != nil {
			return err
		}
		var buf [1500]byte
		for end := time.Now().Add(10 * interval); !heard && time.Now().Before(end); {
			n, err := unix.Read(fd, buf[:])
			var f packet.Frame
			heard = err == nil && f.Parse(buf[:n]) == nil && f.Proto == packet.Protocol && f.SrcIP == src
		}
		return nil
	})
	if err != nil || !heard {
		b.Fatalf("%s does not advertise, %v", master.Name, err)
	}
}
