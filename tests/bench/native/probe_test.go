package native

import (
	"net"
	"sync"
	"testing"
	"time"

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
