package channel

import (
	"bytes"
	"testing"

	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// TestConnectionsKeepNoFrames: frames carry keys, so none stays in the buffers of a
// connection, however large it was.
func TestConnectionsKeepNoFrames(t *testing.T) {
	keys := derive(t, hexA)
	s := serve(t, ListenConfig{Keys: keys, Allow: loopback})
	near, far := connect(t, s, keys)
	exchange(t, near, far)
	for _, size := range []int{100, 40 << 10, 100 << 10, 200 << 10} {
		sent := &wire.Gossip{Payload: sadbtest.Bytes(sadbtest.NewRand(1), size)}
		done := make(chan error, 1)
		go func() { done <- near.WriteMessage(sent) }()
		m, err := far.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got, ok := m.(*wire.Gossip); !ok || !bytes.Equal(got.Payload, sent.Payload) {
			t.Fatalf("%d bytes did not come as they were sent", size)
		}
		if n := len(bytes.Trim(near.write[:cap(near.write)], "\x00")); n != 0 {
			t.Errorf("%d bytes of a frame of %d are left with the sender", n, size)
		}
		if n := len(bytes.Trim(far.read[:cap(far.read)], "\x00")); n != 0 {
			t.Errorf("%d bytes of a frame of %d are left with the receiver", n, size)
		}
	}
}
