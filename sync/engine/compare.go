package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"sasyncd/sync/compare"
	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Comparison of this node's kernel with a peer's, for an operator. Both sides
// read their kernels; sums over buckets tell where to look, and only the items of
// those buckets travel, without their keys.

const (
	// compareChunk is how many buckets are asked for at once: at 100,000 items a
	// few thousand records.
	compareChunk = 8
	// compareMost bounds the records of one answer.
	compareMost = 8192
	// compareAnswer is how long a peer may take to answer.
	compareAnswer = 10 * time.Second
	// compareSettle is how long a difference must last to be one: a change that
	// is on its way has arrived by then.
	compareSettle = 500 * time.Millisecond
	// maxDifferences bounds what is reported.
	maxDifferences = 1000
)

// Errors of what is asked about a peer.
var (
	ErrNoPeer    = errors.New("no session with that peer")
	ErrOldPeer   = errors.New("that peer runs a version that cannot answer: upgrade it")
	ErrPeerGone  = errors.New("the session with that peer ended meanwhile")
	ErrUnrelated = errors.New("that peer has none of this node's groups")
)

// question is one that waits for a peer's answer.
type question struct {
	to     *member
	answer chan wire.Message // closed when the session ends
	over   atomic.Bool       // nobody waits any more
}

// ask sends a message that carries the token given to it and returns where the
// answers arrive. It runs in the engine's goroutine.
func (e *Engine) ask(m *member, msg func(token uint32) wire.Message) (*question, error) {
	e.forgetQuestions()
	e.lastToken++
	q := &question{to: m, answer: make(chan wire.Message, compareMost/inventoryBatch+2)}
	if !e.send(m, msg(e.lastToken)) {
		return nil, ErrPeerGone
	}
	e.questions[e.lastToken] = q
	return q, nil
}

// answered hands an answer to who asked. One that nobody waits for any more is
// dropped.
func (e *Engine) answered(m *member, token uint32, msg wire.Message) {
	q := e.questions[token]
	if q == nil || q.to != m || q.over.Load() {
		return
	}
	select {
	case q.answer <- msg:
	default:
		e.refuse(m, "more answers than were asked for")
	}
}

// unanswered ends the questions to a member whose session is over.
func (e *Engine) unanswered(m *member) {
	for token, q := range e.questions {
		if q.to == m {
			delete(e.questions, token)
			close(q.answer)
		}
	}
}

// done stops waiting. Any goroutine may call it, however busy the engine is.
func (q *question) done() { q.over.Store(true) }

// forgetQuestions drops those for whose answers nobody waits.
func (e *Engine) forgetQuestions() {
	for token, q := range e.questions {
		if q.over.Load() {
			delete(e.questions, token)
		}
	}
}

// find returns the member that the configuration calls peer, or that has it as
// node id.
func (e *Engine) find(peer string) *member {
	for _, m := range e.sorted() {
		if m.session.Peer() == peer || m.hello.Node.String() == peer {
			return m
		}
	}
	return nil
}

// Compare compares this node's kernel with that of a peer, by its name in the
// configuration or its node id. "missing" is what only the peer has, "extra" what
// only this node has; what differs is named field by field, with digests for
// keys. Differences that are gone half a second later were changes on their way
// and are left out.
func (e *Engine) Compare(ctx context.Context, peer string) ([]compare.Difference, error) {
	var groups []string
	var bad error
	if err := e.do(ctx, func() { groups, bad = e.common(peer) }); err != nil {
		return nil, err
	}
	if bad != nil {
		return nil, bad
	}
	out := []compare.Difference{}
	for _, name := range groups {
		differ, err := e.compareSums(ctx, peer, name)
		if err != nil {
			return nil, err
		}
		var found []compare.Difference
		for round := 0; round < 2 && len(differ) > 0; round++ {
			if round > 0 {
				select {
				case <-time.After(compareSettle):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			list, where, err := e.compareItems(ctx, peer, name, differ)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				list = slices.DeleteFunc(list, func(d compare.Difference) bool {
					return !slices.ContainsFunc(found, func(o compare.Difference) bool {
						return o.How == d.How &&
							o.Item == d.Item
					})
				})
			}
			found, differ = list, where
			if len(found) == 0 {
				break
			}
		}
		out = append(out, found...)
	}
	return out[:min(len(out), maxDifferences)], nil
}

// common returns the groups that this node and a peer both have.
func (e *Engine) common(peer string) ([]string, error) {
	m := e.find(peer)
	switch {
	case m == nil:
		return nil, fmt.Errorf("%s: %w", peer, ErrNoPeer)
	case m.hello.Caps&wire.CapCompare == 0:
		return nil, fmt.Errorf("%s: %w", peer, ErrOldPeer)
	}
	var groups []string
	for _, g := range e.order {
		switch {
		case m.groups[g.name] == nil:
		case !g.known():
			return nil, fmt.Errorf("group %s: its virtual addresses are not known yet: does carpd run?", g.name)
		default:
			groups = append(groups, g.name)
		}
	}
	if len(groups) == 0 {
		return nil, fmt.Errorf("%s: %w", peer, ErrUnrelated)
	}
	return groups, nil
}

// compareSums returns the buckets in which the two kernels differ.
func (e *Engine) compareSums(ctx context.Context, peer, group string) ([]uint16, error) {
	own, answers, err := e.inquire(ctx, peer, group, wire.NodeID{}, nil)
	if err != nil {
		return nil, err
	}
	theirs := answers[0].Sums
	if len(theirs) != replica.SumBuckets {
		return nil, fmt.Errorf("%s answered with %d buckets, want %d", peer, len(theirs), replica.SumBuckets)
	}
	var differ []uint16
	for i, v := range compare.Sums(own) {
		if v != theirs[i] {
			differ = append(differ, uint16(i))
		}
	}
	return differ, nil
}

// compareItems compares the items of some buckets one by one and returns the
// buckets that still differ.
func (e *Engine) compareItems(ctx context.Context, peer, group string, buckets []uint16) (list []compare.Difference,
	differ []uint16, err error) {
	var salt wire.NodeID
	rand.Read(salt[:]) // never fails (crypto/rand)
	for chunk := range slices.Chunk(buckets, compareChunk) {
		own, answers, err := e.inquire(ctx, peer, group, salt, chunk)
		if err != nil {
			return nil, nil, err
		}
		theirs := make(map[wire.Sum]wire.Record)
		for _, a := range answers {
			for _, r := range a.Records {
				switch r.Kind {
				case wire.PutSA:
					theirs[wire.SAKeyDigest(r.SA.Key)] = r
				case wire.PutPolicy:
					theirs[wire.PolicyKeyDigest(&r.Policy.Key)] = r
				}
			}
		}
		found := compare.Records(group, compare.Items(own, salt, chunk), theirs)
		for _, f := range found {
			if n := uint16(f.Key.Bucket(replica.SumBuckets)); !slices.Contains(differ, n) {
				differ = append(differ, n)
			}
			list = append(list, f.Difference)
		}
		if len(list) >= maxDifferences {
			break
		}
	}
	slices.Sort(differ)
	slices.SortFunc(list, func(a, b compare.Difference) int {
		return cmp.Or(cmp.Compare(a.Item, b.Item), cmp.Compare(a.How, b.How))
	})
	return list, differ, nil
}

// inquire asks the peer and reads this node's kernel meanwhile.
func (e *Engine) inquire(ctx context.Context, peer, group string, salt wire.NodeID, buckets []uint16) (*sadb.Snapshot,
	[]*wire.Inventory, error) {
	ctx, cancel := context.WithTimeout(ctx, compareAnswer)
	defer cancel()
	var q *question
	var bad error
	err := e.do(ctx, func() {
		m := e.find(peer)
		if m == nil {
			bad = ErrPeerGone
			return
		}
		q, bad = e.ask(m, func(token uint32) wire.Message {
			return &wire.Compare{Token: token, Group: group, Salt: salt, Of: replica.SumBuckets, Buckets: buckets}
		})
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", peer, err)
	}
	defer q.done()
	snap, err := e.inventory(ctx, group)
	if err != nil {
		return nil, nil, err
	}
	var answers []*wire.Inventory
	for {
		select {
		case msg, ok := <-q.answer:
			a, right := msg.(*wire.Inventory)
			switch {
			case !ok:
				return nil, nil, fmt.Errorf("ask %s: %w", peer, ErrPeerGone)
			case !right:
				return nil, nil, fmt.Errorf("%s answered with a %s message", peer, msg.Type())
			case a.Error != "":
				return nil, nil, fmt.Errorf("%s: %s", peer, a.Error)
			}
			if answers = append(answers, a); a.Last {
				return snap, answers, nil
			}
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("wait for the answer of %s: %w", peer, ctx.Err())
		}
	}
}
