package engine

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

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
func (e *Engine) Compare(ctx context.Context, peer string) ([]Difference, error) {
	var groups []string
	var bad error
	if err := e.do(ctx, func() { groups, bad = e.common(peer) }); err != nil {
		return nil, err
	}
	if bad != nil {
		return nil, bad
	}
	out := []Difference{}
	for _, name := range groups {
		differ, err := e.compareSums(ctx, peer, name)
		if err != nil {
			return nil, err
		}
		var found []Difference
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
				list = slices.DeleteFunc(list, func(d Difference) bool {
					return !slices.ContainsFunc(found, func(o Difference) bool { return o.How == d.How && o.Item == d.Item })
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
	if len(theirs) != digestBuckets {
		return nil, fmt.Errorf("%s answered with %d buckets, want %d", peer, len(theirs), digestBuckets)
	}
	var differ []uint16
	for i, v := range sumsOf(own) {
		if v != theirs[i] {
			differ = append(differ, uint16(i))
		}
	}
	return differ, nil
}

// compareItems compares the items of some buckets one by one and returns the
// buckets that still differ.
func (e *Engine) compareItems(ctx context.Context, peer, group string, buckets []uint16) (list []Difference, differ []uint16, err error) {
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
		found := compareRecords(group, itemsOf(own, salt, chunk), theirs)
		for _, f := range found {
			if n := uint16(f.key.Bucket(digestBuckets)); !slices.Contains(differ, n) {
				differ = append(differ, n)
			}
			list = append(list, f.Difference)
		}
		if len(list) >= maxDifferences {
			break
		}
	}
	slices.Sort(differ)
	slices.SortFunc(list, func(a, b Difference) int { return cmp.Or(cmp.Compare(a.Item, b.Item), cmp.Compare(a.How, b.How)) })
	return list, differ, nil
}

// inquire asks the peer and reads this node's kernel meanwhile.
func (e *Engine) inquire(ctx context.Context, peer, group string, salt wire.NodeID, buckets []uint16) (*sadb.Snapshot, []*wire.Inventory, error) {
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
			return &wire.Compare{Token: token, Group: group, Salt: salt, Of: digestBuckets, Buckets: buckets}
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

// inventory reads what the kernel holds of a group.
func (e *Engine) inventory(ctx context.Context, group string) (*sadb.Snapshot, error) {
	snap, err := e.kernel.Dump(ctx)
	if err != nil {
		return nil, err
	}
	var out *sadb.Snapshot
	err = e.do(ctx, func() {
		if g := e.groups[group]; g != nil && g.known() {
			out = g.pick(snap)
		}
	})
	if err == nil && out == nil {
		err = fmt.Errorf("group %s: its virtual addresses are not known yet", group)
	}
	return out, err
}

// inventoryBatch is how many records travel in one message.
const inventoryBatch = 64

// compared answers a peer's question, one at a time: it costs a reading of the
// kernel's tables.
func (e *Engine) compared(ctx context.Context, m *member, msg *wire.Compare) {
	sorry := func(why string) { e.send(m, &wire.Inventory{Token: msg.Token, Last: true, Error: why}) }
	switch g := e.groups[msg.Group]; {
	case m.inventory:
		sorry("the answer to an earlier question is not finished")
		return
	case g == nil || !g.known():
		sorry("group " + msg.Group + " is not configured here, or its virtual addresses are not known")
		return
	case msg.Of != digestBuckets:
		sorry(fmt.Sprintf("%d buckets are not what this version has", msg.Of))
		return
	}
	m.inventory = true
	go func() {
		snap, err := e.inventory(ctx, msg.Group)
		var records []wire.Record
		if err == nil && len(msg.Buckets) > 0 {
			for _, r := range itemsOf(snap, msg.Salt, msg.Buckets) {
				records = append(records, r)
			}
		}
		_ = e.do(ctx, func() { // fails when the engine has ended
			m.inventory = false
			switch {
			case e.members[m.session] != m:
			case err != nil:
				sorry("reading the tables failed")
			case len(records) > compareMost:
				sorry(fmt.Sprintf("%d items at once are too many", len(records)))
			case len(msg.Buckets) == 0:
				s := sumsOf(snap)
				e.send(m, &wire.Inventory{Token: msg.Token, Last: true, Sums: s[:]})
			default:
				for more := true; more; {
					n := min(len(records), inventoryBatch)
					more = n < len(records)
					if !e.send(m, &wire.Inventory{Token: msg.Token, Last: !more, Records: records[:n]}) {
						return
					}
					records = records[n:]
				}
			}
		})
	}()
}

// bare returns an item as it is compared: without what a standby changes on
// purpose.
func bare(sa *sadb.SA) *sadb.SA {
	c := *sa
	c.Limits, c.Dir, c.Counters = sadb.Limits{}, sadb.DirUnknown, sadb.Counters{}
	c.Age, c.Used, c.UseAge = 0, false, 0
	return &c
}

func barePolicy(p *sadb.Policy) *sadb.Policy {
	c := *p
	c.Limits, c.Use = sadb.Limits{}, sadb.Use{}
	return &c
}

// sumsOf returns the sums over what a kernel holds.
func sumsOf(snap *sadb.Snapshot) (s sums) {
	for _, sa := range snap.SAs {
		s.add(partOf(wire.SAKeyDigest(sa.Key), wire.SADigest(bare(sa))))
	}
	for _, p := range snap.Policies {
		s.add(partOf(wire.PolicyKeyDigest(&p.Key), wire.PolicyDigest(barePolicy(p))))
	}
	return s
}

// itemsOf returns the items of some buckets, by the digests of their identities
// and without keys.
func itemsOf(snap *sadb.Snapshot, salt wire.NodeID, buckets []uint16) map[wire.Sum]wire.Record {
	var in [digestBuckets]bool
	for _, b := range buckets {
		in[b] = true
	}
	out := make(map[wire.Sum]wire.Record)
	for _, sa := range snap.SAs {
		if k := wire.SAKeyDigest(sa.Key); in[k.Bucket(digestBuckets)] {
			out[k] = wire.Record{Kind: wire.PutSA, SA: wire.Redact(bare(sa), salt)}
		}
	}
	for _, p := range snap.Policies {
		if k := wire.PolicyKeyDigest(&p.Key); in[k.Bucket(digestBuckets)] {
			out[k] = wire.Record{Kind: wire.PutPolicy, Policy: barePolicy(p)}
		}
	}
	return out
}

// found is a difference and where it was found.
type found struct {
	Difference
	key wire.Sum
}

// compareRecords compares items of this node with those of a peer.
func compareRecords(group string, here, there map[wire.Sum]wire.Record) []found {
	var out []found
	add := func(k wire.Sum, how string, r wire.Record, fields []FieldDifference) {
		out = append(out, found{Difference{Group: group, How: how, Item: itemName(r), Fields: fields}, k})
	}
	for k, a := range here {
		b, ok := there[k]
		switch {
		case !ok:
			add(k, "extra", a, nil)
		case a.Kind == b.Kind && sameRecord(a, b):
		default:
			add(k, "differs", a, fieldsOf(a, b))
		}
	}
	for k, b := range there {
		if _, ok := here[k]; !ok {
			add(k, "missing", b, nil)
		}
	}
	return out
}

func itemName(r wire.Record) string {
	if r.SA != nil {
		return r.SA.Key.String()
	}
	return r.Policy.Key.String()
}

func sameRecord(a, b wire.Record) bool {
	if a.SA != nil && b.SA != nil {
		return bytes.Equal(wire.AppendSA(nil, a.SA), wire.AppendSA(nil, b.SA))
	}
	return a.Policy != nil && b.Policy != nil && bytes.Equal(wire.AppendPolicy(nil, a.Policy), wire.AppendPolicy(nil, b.Policy))
}
