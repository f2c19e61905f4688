// Package cluster is two or more gateways that run sasyncd with locked roles
// (`mode master`, `mode slave`), each in a network namespace with a kernel's
// tables of its own, joined by one or more sync links. Without an election,
// what replication does is seen alone.
package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"syscall"
	"time"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/engine"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// Options returns what the harness needs for a [Cluster].
func Options() []harness.Option {
	return []harness.Option{harness.Build("./cmd/sasyncd", "./cmd/sasyncctl")}
}

// Limits of what is waited for. They say that something hangs, not how fast it
// should be.
const (
	startLimit = 20 * time.Second
	SyncLimit  = 20 * time.Second
)

// Cluster is a set of gateways. The first is the master.
type Cluster struct {
	Net   *lab.Net
	Links []*lab.Switch
	Nodes []*Node

	t lab.T
}

// Node is one gateway.
type Node struct {
	*lab.Node
	// Kernel is another process's view of the node's tables: what is done
	// through it is foreign to sasyncd, as an IKE daemon's work is.
	Kernel *xfrm.Kernel
	Daemon *lab.Daemon // nil before the first start

	// Mode, Extra and Keys go into the configuration at the next start or
	// reload. Keys are lines of the key files, the first is used.
	Mode, Extra string
	Keys        []string

	c  *Cluster
	at int
}

// NewKey returns 256 random bits as a key file has them.
func NewKey() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return "0x" + hex.EncodeToString(b)
}

// New makes gateways joined by links (1 to 9) and starts nothing.
func New(t lab.T, nodes, links int) *Cluster {
	t.Helper()
	c := &Cluster{Net: lab.New(t), t: t}
	for i := range links {
		c.Links = append(c.Links, c.Net.Switch(fmt.Sprintf("sync%d", i)))
	}
	key := NewKey()
	for i := range nodes {
		nd := &Node{Node: c.Net.Node(fmt.Sprintf("n%d", i)), c: c, at: i, Mode: "slave", Keys: []string{key}}
		if i == 0 {
			nd.Mode = "master"
		}
		for j, sw := range c.Links {
			nd.Plug(sw, fmt.Sprintf("sync%d", j), nd.Address(j)+"/24")
		}
		if err := nd.Do(func() (err error) {
			nd.Kernel, err = xfrm.New(xfrm.Options{})
			return err
		}); err != nil {
			t.Fatalf("open kernel of %s: %v", nd.Name, err)
		}
		t.Cleanup(func() {
			if err := nd.Kernel.Close(); err != nil {
				t.Errorf("close kernel of %s: %v", nd.Name, err)
			}
		})
		c.Nodes = append(c.Nodes, nd)
	}
	return c
}

// Master is the first node.
func (c *Cluster) Master() *Node { return c.Nodes[0] }

// Standbys are all others.
func (c *Cluster) Standbys() []*Node { return c.Nodes[1:] }

// Start starts all daemons and waits until all standbys are complete.
func (c *Cluster) Start() {
	c.t.Helper()
	for _, nd := range c.Nodes {
		nd.Start()
	}
	for _, nd := range c.Standbys() {
		nd.WaitInSync()
	}
}

// Address is the node's address on a link.
func (nd *Node) Address(link int) string { return fmt.Sprintf("192.168.%d.%d", 90+link, 1+nd.at) }

func (nd *Node) socket() string { return nd.Dir() + "/sasyncd.sock" }

// Configure writes the configuration.
func (nd *Node) Configure() {
	nd.c.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "mode %s\n", nd.Mode)
	for _, other := range nd.c.Nodes {
		if other == nd {
			continue
		}
		b.WriteString("peer")
		for j := range nd.c.Links {
			b.WriteString(" " + other.Address(j))
		}
		b.WriteString("\n")
	}
	for i, key := range nd.Keys {
		file := nd.WriteFile(fmt.Sprintf("key%d", i), key+"\n")
		fmt.Fprintf(&b, "sharedkey file %q\n", file)
	}
	fmt.Fprintf(&b, "control none\nsocket %q\nstatedir %q\n%s\n", nd.socket(), nd.Dir(), nd.Extra)
	nd.WriteFile("sasyncd.conf", b.String())
}

// Start starts sasyncd and waits until it answers.
func (nd *Node) Start() {
	nd.c.t.Helper()
	nd.Configure()
	nd.Daemon = nd.Node.Daemon("sasyncd", "-dc", nd.Dir()+"/sasyncd.conf")
	lab.Eventually(nd.c.t, startLimit, "sasyncd of "+nd.Name+" to answer", func() bool {
		_, err := nd.Ask()
		return err == nil
	})
}

// Stop ends sasyncd as an operator does.
func (nd *Node) Stop() {
	nd.c.t.Helper()
	if code := nd.Daemon.Term(startLimit); code != 0 {
		nd.c.t.Errorf("%s ended with exit code %d", nd.Daemon.Name, code)
	}
}

// Reload has sasyncd read the configuration again and waits until it has.
func (nd *Node) Reload() {
	nd.c.t.Helper()
	nd.Configure()
	if err := scenario.Ask(nd.socket(), "reload", nil); err != nil {
		nd.c.t.Fatalf("reload %s: %v", nd.Name, err)
	}
}

// Pause stops the daemon's clockwork without its knowledge.
func (nd *Node) Pause() { nd.Daemon.Signal(syscall.SIGSTOP) }

// Resume has it run again.
func (nd *Node) Resume() { nd.Daemon.Signal(syscall.SIGCONT) }

// Ask returns sasyncd's status, or why there is none.
func (nd *Node) Ask() (engine.Status, error) {
	var s engine.Status
	err := scenario.Ask(nd.socket(), "status", &s)
	if err == nil && len(s.Groups) != 1 {
		err = fmt.Errorf("%s: %d groups, want 1", nd.Name, len(s.Groups))
	}
	return s, err
}

// Status is [Node.Ask]; the test ends when there is none.
func (nd *Node) Status() engine.Status {
	nd.c.t.Helper()
	s, err := nd.Ask()
	if err != nil {
		nd.c.t.Fatalf("status of %s: %v", nd.Name, err)
	}
	return s
}

// Group is the status of the only group.
func (nd *Node) Group() engine.GroupStatus { nd.c.t.Helper(); return nd.Status().Groups[0] }

// Counts are the totals of sasyncd since its start.
func (nd *Node) Counts() engine.Counts { nd.c.t.Helper(); return nd.Status().Counts }

// WaitInSync waits until the standby follows the master completely.
func (nd *Node) WaitInSync() {
	nd.c.t.Helper()
	lab.Eventually(nd.c.t, SyncLimit, nd.Name+" to follow the master", func() bool {
		s, err := nd.Ask()
		return err == nil && s.Groups[0].InSync && s.Groups[0].Why == "follows the master"
	})
}

// Cut pulls a sync link of the node.
func (nd *Node) Cut(link int) { nd.c.t.Helper(); nd.Ports()[link].Pull() }

// Heal plugs it in again.
func (nd *Node) Heal(link int) { nd.c.t.Helper(); nd.Ports()[link].Replug() }
