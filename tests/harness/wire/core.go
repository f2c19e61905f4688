package wire

import (
	"container/heap"
	"time"
)

// PortID names a port of a [Core]; they count from 0.
type PortID int

// Delivery is a frame that reaches the machine at a port.
type Delivery struct {
	Port  PortID
	Frame []byte // shared with other deliveries: not to be changed
}

// mac is an Ethernet address.
type mac [6]byte

func (m mac) group() bool { return m[0]&1 != 0 }

// minFrame is the length of an Ethernet header.
const minFrame = 14

// Core is a switch with several LANs. It is not safe for concurrent use. Times
// passed to its methods must not go backwards.
type Core struct {
	seed  uint64
	ports []*port
	lans  map[string]map[mac]PortID // learned addresses
	queue queue
	order uint64
}

type port struct {
	lan   string
	up    bool
	lanes [2]*lane
}

// NewCore returns a switch without ports; seed decides all chance.
func NewCore(seed uint64) *Core {
	return &Core{seed: seed, lans: map[string]map[mac]PortID{}}
}

// AddPort adds a port, with nobody plugged in, to a LAN, which is made if it is new.
func (c *Core) AddPort(lan string) PortID {
	id := PortID(len(c.ports))
	p := &port{lan: lan}
	for w := range p.lanes {
		p.lanes[w] = newLane(c.seed, uint64(id)<<1|uint64(w))
	}
	c.ports = append(c.ports, p)
	if c.lans[lan] == nil {
		c.lans[lan] = map[mac]PortID{}
	}
	return id
}

// Plug says whether a machine is plugged in. When one is unplugged, what was
// under way to it is gone, and the LAN forgets its addresses; what it had sent
// is still delivered.
func (c *Core) Plug(id PortID, up bool) {
	p := c.ports[id]
	p.up = up
	if up {
		return
	}
	for m, at := range c.lans[p.lan] {
		if at == id {
			delete(c.lans[p.lan], m)
		}
	}
	kept := c.queue[:0]
	for _, e := range c.queue {
		if e.port == id && e.way == In {
			p.lanes[In].count.Down++
			continue
		}
		kept = append(kept, e)
	}
	c.queue = kept
	heap.Init(&c.queue)
}

// Set changes the faults of a port in one direction, for frames that come from
// now on.
func (c *Core) Set(id PortID, w Way, f Fault) { c.ports[id].lanes[w].fault = f }

// Fault returns the faults of a port in one direction.
func (c *Core) Fault(id PortID, w Way) Fault { return c.ports[id].lanes[w].fault }

// Count returns what passed a port in one direction so far.
func (c *Core) Count(id PortID, w Way) Count { return c.ports[id].lanes[w].count }

// Full books a delivery that could not be made.
func (c *Core) Full(id PortID) {
	n := &c.ports[id].lanes[In].count
	n.Full++
	n.Frames--
}

// Receive takes a frame that the machine at a port sends at now. The Core keeps
// the frame. What is to be delivered is for [Core.Due] to tell.
func (c *Core) Receive(now time.Time, from PortID, frame []byte) {
	if len(frame) < minFrame {
		return
	}
	c.enter(now, from, Out, frame)
}

// enter sends a frame into a lane.
func (c *Core) enter(now time.Time, id PortID, w Way, frame []byte) {
	l := c.ports[id].lanes[w]
	for _, d := range l.delays() {
		c.order++
		heap.Push(&c.queue, event{at: now.Add(d), order: c.order, port: id, way: w, number: l.came, frame: frame})
	}
}

// Deadline is when [Core.Due] should be called next; ok is false when nothing is
// under way.
func (c *Core) Deadline() (at time.Time, ok bool) {
	if len(c.queue) == 0 {
		return time.Time{}, false
	}
	return c.queue[0].at, true
}

// Due moves on what is under way, and returns what reaches machines by now, in order.
func (c *Core) Due(now time.Time) []Delivery {
	var list []Delivery
	for len(c.queue) > 0 && !c.queue[0].at.After(now) {
		e := heap.Pop(&c.queue).(event)
		l := c.ports[e.port].lanes[e.way]
		if e.way == In && !c.ports[e.port].up {
			l.count.Down++
			continue
		}
		l.passed(e.number, len(e.frame))
		if e.way == In {
			list = append(list, Delivery{Port: e.port, Frame: e.frame})
		} else {
			c.forward(e.at, e.port, e.frame)
		}
	}
	return list
}

// forward learns where a frame comes from and sends it to where its destination
// was last heard, or everywhere else.
func (c *Core) forward(at time.Time, from PortID, frame []byte) {
	lan := c.ports[from].lan
	known := c.lans[lan]
	dst, src := mac(frame[:6]), mac(frame[6:12])
	if !src.group() && c.ports[from].up {
		known[src] = from
	}
	if to, ok := known[dst]; ok && !dst.group() {
		if to != from {
			c.enter(at, to, In, frame)
		}
		return
	}
	for id, p := range c.ports {
		if PortID(id) != from && p.lan == lan {
			c.enter(at, PortID(id), In, frame)
		}
	}
}

// event is a frame in a lane.
type event struct {
	at     time.Time
	order  uint64
	port   PortID
	way    Way
	number uint64
	frame  []byte
}

// queue is a heap by time, then by order of coming.
type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = event{}
	*q = (*q)[:last]
	return e
}
