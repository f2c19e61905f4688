package api

import (
	"slices"
	"sync"
)

// mailbox holds the messages that wait for a client. Events of which only the
// latest matters do not pile up, so no number of them fills it. Safe for
// concurrent use; one goroutine takes.
type mailbox struct {
	mu      sync.Mutex
	items   []Message
	lasting int // of items: those that nothing supersedes
	closed  bool
	wake    chan struct{}
}

func newMailbox() mailbox { return mailbox{wake: make(chan struct{}, 1)} }

// transient reports whether only the latest event of its kind matters, about a
// group and, where it names one, an instance.
func (m *Message) transient() bool {
	switch m.Event {
	case EventPeer, EventContested, EventStall, EventFitness:
		return true
	}
	return false
}

// supersedes reports whether m makes an earlier event obsolete.
func (m *Message) supersedes(old *Message) bool {
	return m.transient() && m.Event == old.Event && m.Group == old.Group && m.Instance == old.Instance
}

// put adds a message, or reports that it would be more than limit that wait and
// that nothing supersedes. It drops what comes after close.
func (b *mailbox) put(m Message, limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return true
	case m.transient():
		// At the end, so that the order of what remains is that of the calls.
		b.items = slices.DeleteFunc(b.items, func(old Message) bool { return m.supersedes(&old) })
	case b.lasting >= limit:
		return false
	default:
		b.lasting++
	}
	b.items = append(b.items, m)
	b.signal()
	return true
}

func (b *mailbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take waits for the next message. After close it returns the rest, then ok is
// false.
func (b *mailbox) take() (m Message, ok bool) {
	for {
		b.mu.Lock()
		if len(b.items) > 0 {
			m = b.items[0]
			b.items = slices.Delete(b.items, 0, 1)
			if !m.transient() {
				b.lasting--
			}
			b.mu.Unlock()
			return m, true
		}
		closed := b.closed
		b.mu.Unlock()
		if closed {
			return m, false
		}
		<-b.wake
	}
}

// close lets nothing more in. It may be called again.
func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.signal()
}
