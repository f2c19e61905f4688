package wire

import (
	"bytes"
	"net"
	"testing"
	"time"
)

// plug connects to a port as a guest does.
func plug(t *testing.T, p *Port) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: p.Path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for end := time.Now().Add(time.Minute); !p.Plugged(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not notice that it is plugged in", p.Name)
		}
	}
	return c
}

// take reads one frame.
func take(t *testing.T, c *net.UnixConn) []byte {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, maxFrame)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func send(t *testing.T, c *net.UnixConn, frame []byte) {
	t.Helper()
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
}

func TestSwitch(t *testing.T) {
	seen := make(chan Way, 100)
	s, err := NewSwitch(1, func(_ time.Time, _ *Port, w Way, _ []byte) { seen <- w })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ports := make([]*Port, 2)
	for i, name := range []string{"one", "two"} {
		if ports[i], err = s.Port("lan", name); err != nil {
			t.Fatal(err)
		}
	}
	one, two := plug(t, ports[0]), plug(t, ports[1])

	send(t, one, frame(0, 1, 1))
	if got := take(t, two); !bytes.Equal(got, frame(0, 1, 1)) {
		t.Errorf("got %x", got)
	}
	if a, b := <-seen, <-seen; a != Out || b != In {
		t.Errorf("the tap saw ways %v and %v, want first what is sent, then what is received", a, b)
	}

	// A delayed frame arrives without another that would push it.
	ports[1].Set(In, Fault{Delay: 10 * time.Millisecond})
	send(t, one, frame(0, 1, 2))
	if got := take(t, two); number(got) != 2 {
		t.Errorf("got frame %d", number(got))
	}
	ports[1].Heal()

	// One machine's power goes, and comes back: the port takes the new one.
	two.Close()
	for end := time.Now().Add(time.Minute); ports[1].Plugged(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the port does not notice that it was unplugged")
		}
	}
	send(t, one, frame(0, 1, 3))
	// In order behind frame 3, so that frame 3 is known to be gone.
	for end := time.Now().Add(time.Minute); ports[1].Count(In).Down == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a frame to nobody is not counted")
		}
	}
	two = plug(t, ports[1])
	send(t, one, frame(0, 1, 4))
	if got := take(t, two); number(got) != 4 {
		t.Errorf("after the return arrived frame %d, want 4", number(got))
	}
}
