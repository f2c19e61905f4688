package peer

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"sasyncd/sync/channel"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

var histories = flag.Uint64("histories", 2, "how many random histories TestChaos runs")

// talker sends numbered messages on every session of a node, each numbered
// from 0, and notes what is wrong with what it receives.
type talker struct {
	node *node
	next map[*Session]uint64
	seen map[*Session]uint64
	at   int // events looked at
}

func newTalker(n *node) *talker {
	return &talker{node: n, next: map[*Session]uint64{}, seen: map[*Session]uint64{}}
}

func (k *talker) talk() {
	for _, st := range k.node.Status() {
		if s := st.Session; s != nil && s.Send(&wire.Ack{Seq: k.next[s]}) {
			k.next[s]++
		}
	}
}

// check reports a message that is not the next one of its session, and events
// out of order.
func (k *talker) check(alive map[string]*Session) error {
	events := k.node.seen()
	for ; k.at < len(events); k.at++ {
		ev := events[k.at]
		peer := ev.Session.Peer()
		switch ev.Kind {
		case Up:
			if alive[peer] != nil {
				return fmt.Errorf("%s: two sessions with %s", k.node.name, peer)
			}
			alive[peer] = ev.Session
		case Down:
			if alive[peer] != ev.Session {
				return fmt.Errorf("%s: the end of a session with %s that was not up", k.node.name, peer)
			}
			delete(alive, peer)
		case Message:
			ack, ok := ev.Message.(*wire.Ack)
			if !ok || alive[peer] != ev.Session || ack.Seq != k.seen[ev.Session] {
				return fmt.Errorf("%s: message %v from %s where number %d was due", k.node.name, ev.Message, peer,
					k.seen[ev.Session])
			}
			k.seen[ev.Session]++
		}
	}
	return nil
}

// Random histories of cut links, vanishing and returning processes, kicks, key
// changes and renewals. Whatever happens, the two ends of a session agree on
// where it begins: every message of it arrives in order from the first, or the
// session is over. Once all is well each pair has one session on one
// connection.
func TestChaos(t *testing.T) {
	for seed := range *histories {
		bubble(t, 2, func(t *testing.T, w *world) {
			r := sadbtest.NewRand(seed)
			ab := derive(t, hexA, hexB)
			ba := derive(t, hexB, hexA)
			w.keys = ab
			others := map[int][]int{1: {2, 3}, 2: {1, 3}, 3: {1, 2}}
			nodes, talkers := map[int]*node{}, map[int]*talker{}
			alive := map[int]map[string]*Session{}
			boot := func(i int) {
				nodes[i] = w.start(i, others[i])
				talkers[i], alive[i] = newTalker(nodes[i]), map[string]*Session{}
			}
			check := func() {
				for i, k := range talkers {
					if err := k.check(alive[i]); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
				}
			}
			links := func(f func(link, a, b int)) {
				for l := range 2 {
					for _, p := range [][2]int{{1, 2}, {1, 3}, {2, 3}} {
						f(l, p[0], p[1])
					}
				}
			}
			for i := range 3 {
				boot(i + 1)
			}
			for range 120 {
				for range r.IntN(200) {
					time.Sleep(time.Duration(r.IntN(20000)) * time.Microsecond)
					for _, k := range talkers {
						k.talk()
					}
				}
				check()
				i := 1 + r.IntN(3)
				switch r.IntN(8) {
				case 0, 1:
					links(func(l, a, b int) {
						if r.IntN(6) == 0 {
							w.net.Cut(at(l, a), at(l, b))
						}
					})
				case 2, 3:
					links(func(l, a, b int) {
						if r.IntN(2) == 0 {
							w.net.Heal(at(l, a), at(l, b))
						}
					})
				case 4:
					for _, n := range nodes {
						n.Kick()
					}
				case 5:
					if r.IntN(2) == 0 {
						for l := range 2 {
							w.net.Crash(at(l, i))
						}
					}
					nodes[i].stop()
					check()
					if r.IntN(2) == 0 {
						time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
					}
					boot(i)
				case 6:
					for _, o := range nodes[i].owners {
						o.post(evRenew{})
					}
				case 7:
					nodes[i].SetKeys([]channel.Keys{ab, ba}[r.IntN(2)])
				}
			}
			links(func(l, a, b int) { w.net.Heal(at(l, a), at(l, b)) })
			time.Sleep(30 * time.Second)
			for _, n := range nodes {
				n.Kick()
			}
			time.Sleep(time.Second)
			before := w.net.Connections()
			var ups int
			for _, n := range nodes {
				ups += n.count(Up)
			}
			time.Sleep(30 * time.Second)
			check()
			after := 0
			for i, n := range nodes {
				if after += n.count(Up); len(alive[i]) != 2 {
					t.Errorf("seed %d: node %d has %d sessions", seed, i, len(alive[i]))
				}
			}
			if before != 3 || w.net.Connections() != 3 || ups != after {
				t.Errorf("seed %d: %d, later %d connections; %d, later %d sessions", seed, before, w.net.Connections(),
					ups, after)
			}
		})
		if t.Failed() {
			return
		}
	}
}
