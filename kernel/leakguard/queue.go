package leakguard

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// base is a chain in a hook.
type base struct {
	name     string
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
}

var (
	natBases = []base{
		{"before-nat", nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource - 1},
		{"after-nat", nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource + 1},
	}
	earlyBase = base{"early", nftables.ChainHookForward, *nftables.ChainPriorityFilter - 10}
)

func (w *wall) bases() []base {
	if w.early {
		return append(slices.Clone(natBases), earlyBase)
	}
	return natBases
}

// ruleCount is how many rules the table has.
func (w *wall) ruleCount() int { return len(w.rules) + len(w.bases()) }

// chunk bounds the elements of a message, whose length is 16 bits wide. The longest
// element has 60 bytes.
const chunk = 500

func theTable() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// queue makes the batch that puts the wall in the place of the table that is there.
func (w *wall) queue(c *nftables.Conn, there bool, dropped volume) error {
	t := theTable()
	if there {
		c.DelTable(t)
	}
	// Not AddTable: into a table that somebody else has just made the rules would not fit.
	c.CreateTable(t)
	c.AddObj(&nftables.CounterObj{Table: t, Name: counterName, Packets: dropped.packets, Bytes: dropped.bytes})
	for i, s := range w.sets {
		if err := s.queue(c, t, uint32(i+1)); err != nil {
			return err
		}
	}
	chains := make(map[string]*nftables.Chain)
	names := []string{mainChain}
	for _, ipv6 := range []bool{false, true} {
		names = append(names, wholeChain(ipv6), laterChain(ipv6), quotedChain(ipv6))
	}
	for _, name := range names {
		chains[name] = c.AddChain(&nftables.Chain{Table: t, Name: name})
	}
	for _, r := range w.rules {
		c.AddRule(&nftables.Rule{Table: t, Chain: chains[r.chain], Exprs: r.what})
	}
	accept := nftables.ChainPolicyAccept
	for _, b := range w.bases() {
		chain := c.AddChain(&nftables.Chain{Table: t, Name: b.name, Type: nftables.ChainTypeFilter, Hooknum: b.hook,
			Priority: &b.priority, Policy: &accept})
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{jump(mainChain)}})
	}
	return nil
}

// queue makes a set of known size, for which the kernel takes a hash table that does not
// grow. The library counts ids of sets for the whole process and without a lock, so they
// are given here.
func (s set) queue(c *nftables.Conn, t *nftables.Table, id uint32) error {
	x := &nftables.Set{Table: t, ID: id, Name: s.name, KeyType: s.kind, Size: uint32(len(s.keys))}
	if err := c.AddSet(x, nil); err != nil {
		return err
	}
	for some := range slices.Chunk(s.keys, chunk) {
		elements := make([]nftables.SetElement, len(some))
		for i, k := range some {
			elements[i].Key = k
		}
		if err := c.SetAddElements(x, elements); err != nil {
			return err
		}
	}
	return nil
}
