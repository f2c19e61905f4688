package peer

import (
	"bytes"
	"testing"
	"time"

	"sasyncd/sync/wire"
)

// TestSessionsKeepNoFrames: frames carry keys, so none stays in memory once it was
// written, or once its session is over.
func TestSessionsKeepNoFrames(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		a, b := w.start(1, []int{2}), w.start(2, []int{1})
		until(t, time.Second, "a session", both(a, b))
		s := a.session(b.name)
		left := func(what string, f []byte) {
			t.Helper()
			if n := len(bytes.Trim(f, "\x00")); n != 0 {
				t.Errorf("%d bytes are left of %s", n, what)
			}
		}
		// queue is Send, and keeps what it has queued.
		queue := func(size int) []byte {
			frame, err := s.encode(&wire.Gossip{Payload: bytes.Repeat([]byte{7}, size)})
			if err != nil {
				t.Fatal(err)
			}
			s.encoding.Lock()
			left("what was encoded", s.scratch[:cap(s.scratch)])
			s.encoding.Unlock()
			s.owner.shared.mu.Lock()
			s.queue, s.queued = append(s.queue, outgoing{frame: frame}), s.queued+len(frame)
			s.owner.shared.mu.Unlock()
			return frame
		}
		var frames [][]byte
		for _, size := range []int{10, 60 << 10, 200 << 10} {
			frames = append(frames, queue(size))
		}
		s.owner.shared.mu.Lock()
		s.sender.poke()
		s.owner.shared.mu.Unlock()
		until(t, time.Second, "the frames", func() bool { return b.count(Message) == len(frames) && s.Queued() == 0 })
		for _, f := range frames {
			left("a frame that was written", f)
		}
		never := queue(1000)
		s.Close(wire.ByeShutdown, "enough")
		left("a frame that is never written", never)
	})
}
