package netlink

import "golang.org/x/sys/unix"

// Batch is several requests that go to the kernel in one datagram. The kernel carries
// them out in order, each whether or not others fail. It is used inside Requester.Batch.
type Batch struct {
	// Data is what will be sent. A request's payload is appended to it.
	Data []byte

	first, pid uint32
	n, begun   int
}

// Begin begins a request. Its payload is to be appended to Data, and End or Drop to be
// called then.
func (b *Batch) Begin(typ, flags uint16) {
	b.Data, b.begun = BeginMessage(b.Data, typ, flags, b.first+uint32(b.n), b.pid)
}

// End ends the request that Begin began.
func (b *Batch) End() {
	EndMessage(b.Data, b.begun)
	b.n++
}

// Drop takes the request that Begin began back, and overwrites it.
func (b *Batch) Drop() {
	clear(b.Data[b.begun:])
	b.Data = b.Data[:b.begun]
}

// Len is how many requests the batch has.
func (b *Batch) Len() int { return b.n }

// askLast sets NLM_F_ACK on the last message in b.
func askLast(b []byte) {
	for {
		n := align(int(native.Uint32(b)))
		if n >= len(b) {
			native.PutUint16(b[6:], native.Uint16(b[6:])|unix.NLM_F_ACK)
			return
		}
		b = b[n:]
	}
}

// Reserve makes room for a batch of n bytes at once, since growing would leave copies
// behind, with keys in them.
func (r *Requester) Reserve(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cap(r.out) < n {
		r.out = make([]byte, 0, n)
	}
}

// Batch sends the requests that fill puts into the batch, and calls fail, with the number
// of the request, for each that the kernel refused. Only the last of them asks for an
// acknowledgement; the kernel reports failures of the others by itself. The error is that
// of the socket: nobody knows then what was done.
func (r *Requester) Batch(fill func(b *Batch), fail func(i int, res Result)) error {
	return r.Questions(fill, nil, fail)
}

// Questions is Batch for requests that the kernel answers with messages. It calls take,
// which may be nil, with each of them and the number of its request. The payload is valid
// during the call only.
func (r *Requester) Questions(fill func(b *Batch), take func(i int, m Message), fail func(i int, res Result)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := Batch{Data: r.out[:0], first: r.seq + 1, pid: r.pid}
	fill(&b)
	r.out = b.Data
	if b.n == 0 {
		return nil
	}
	askLast(b.Data)
	r.seq += uint32(b.n)
	if err := r.send(b.Data); err != nil {
		return err
	}
	defer func() { r.sock.wipe() }()
	return r.answers(func(m Message) (done bool) {
		i := m.Seq - b.first
		if i >= uint32(b.n) {
			return false
		}
		if m.Type != unix.NLMSG_ERROR {
			if take != nil {
				take(int(i), m)
			}
			return false
		}
		if errno, text := ack(m); errno != 0 {
			fail(int(i), Result{errno, text})
		}
		return i == uint32(b.n)-1
	}, nil)
}
