package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sasyncd/carp/api"
	"sasyncd/kernel/process"
	"sasyncd/kernel/trusted"
)

// notify runs a program with the state of a group, once at its start and then
// at every change, as keepalived's notify scripts are run. It is a process of
// its own, with the privileges of who starts it: carpd executes nothing.
//
// One program runs at a time. What changes meanwhile is told when it has ended,
// and of several changes only the latest. One that fails is run again.

// States as keepalived calls them.
const (
	notifyMaster = "MASTER"
	notifyBackup = "BACKUP"
	notifyFault  = "FAULT" // no interface, or no carpd
	notifyStop   = "STOP"  // notify itself ends
)

const (
	notifyPatience = time.Second // with a carpd that does not answer, at the start
	notifyLimit    = 30 * time.Second
	notifyAgain    = time.Second // after the first failure, doubled up to notifyLimit
)

// notice is what a program is told.
type notice struct {
	state  string
	reason string
	term   uint64
	vips   []string
}

// same reports whether a program need not be told n after o.
func (n notice) same(o notice) bool { return n.state == o.state && n.term == o.term }

// noticeOf returns what to tell of a group.
func noticeOf(g *api.GroupState) notice {
	n := notice{state: notifyFault, reason: g.Reason, term: g.Term}
	switch g.State {
	case api.StateMaster:
		n.state = notifyMaster
	case api.StateBackup:
		n.state, n.term = notifyBackup, 0 // that of the latest mastership
	default:
		n.term = 0
	}
	for _, a := range g.Addresses() {
		n.vips = append(n.vips, a.String())
	}
	return n
}

// notifier follows one group.
type notifier struct {
	socket string
	group  string                 // as the operator named it, perhaps by an instance
	known  atomic.Pointer[string] // the group's name, once carpd has told
	argv   []string               // the program, with its path, and its first arguments
	log    *slog.Logger
	run    func(ctx context.Context, n notice) error
}

func newNotifier(socket string, args []string, log *slog.Logger) (*notifier, error) {
	if len(args) < 2 {
		return nil, errUsage
	}
	n := &notifier{socket: socket, group: args[0], argv: args[1:], log: log}
	// A name without a slash is one of the search path.
	path, err := exec.LookPath(n.argv[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: find the program: %w", errUsage, err)
	}
	n.argv = append([]string{path}, n.argv[1:]...)
	program, err := n.program()
	if err != nil {
		return nil, fmt.Errorf("%w: find the program: %w", errUsage, err)
	}
	program.Close()
	n.run = n.execute
	return n, nil
}

// name is that of the group as far as it is known.
func (n *notifier) name() string {
	if known := n.known.Load(); known != nil {
		return *known
	}
	return n.group
}

// follow runs the program until ctx ends, and then with STOP.
func (n *notifier) follow(ctx context.Context) error {
	client := api.NewClient(api.ClientConfig{Socket: n.socket, Name: "notify", Groups: []string{n.group}, Log: n.log})
	wants := make(chan notice, 1)
	runner := make(chan struct{})
	go func() {
		defer close(runner)
		n.tell(ctx, wants)
	}()
	go func() { _ = client.Run(ctx) }() // it ends with ctx
	n.watch(client.Events(), wants)
	<-runner
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyLimit)
	defer cancel()
	return n.run(stop, notice{state: notifyStop})
}

// watch turns events into what the program is to be told, until they end.
func (n *notifier) watch(events <-chan api.Message, wants chan notice) {
	want := func(x notice) {
		select {
		case <-wants: // older
		default:
		}
		wants <- x
	}
	fault := time.NewTimer(notifyPatience)
	defer fault.Stop()
	reason := "carpd does not answer"
	var frozen time.Time
	for {
		select {
		case m, ok := <-events:
			if !ok {
				return
			}
			switch m.Event {
			case api.EventState:
				fault.Stop()
				n.known.Store(&m.State.Group)
				want(noticeOf(m.State))
			case api.EventFreeze:
				frozen = time.Now().Add(m.For())
			case api.EventDisconnected:
				// Addresses and fence of a carpd that is restarted stay as they are.
				fault.Reset(max(0, time.Until(frozen)))
			}
		case <-fault.C:
			want(notice{state: notifyFault, reason: reason})
		}
	}
}

// tell runs the program with the latest of what it is to be told.
func (n *notifier) tell(ctx context.Context, wants <-chan notice) {
	var next, told notice
	again := notifyAgain
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case next = <-wants:
			again = notifyAgain
		case <-retry.C:
		}
		if next.same(told) {
			continue
		}
		retry.Stop()
		limited, cancel := context.WithTimeout(ctx, notifyLimit)
		err := n.run(limited, next)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			told = next
			n.log.Info("told", "group", n.name(), "state", next.state, "reason", next.reason, "program", n.argv[0])
			continue
		}
		told = notice{} // half done
		n.log.Error("the program failed", "group", n.name(), "state", next.state, "program", n.argv[0], "err", err,
			"again_in", again)
		retry.Reset(again)
		again = min(2*again, notifyLimit)
	}
}

// program opens the program anew, which may have been replaced since.
func (n *notifier) program() (*trusted.Program, error) {
	return trusted.For(os.Geteuid()).Program(n.argv[0])
}

// execute runs the program: its own arguments, then those that keepalived gives.
func (n *notifier) execute(ctx context.Context, x notice) error {
	program, err := n.program()
	if err != nil {
		return err
	}
	defer program.Close()
	cmd := program.Command(ctx, append(n.argv[1:len(n.argv):len(n.argv)], "GROUP", n.name(), x.state)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), "CARP_GROUP="+n.name(), "CARP_STATE="+x.state, "CARP_REASON="+x.reason,
		"CARP_TERM="+strconv.FormatUint(x.term, 10), "CARP_VIPS="+strings.Join(x.vips, " "))
	process.Contain(cmd)
	return cmd.Run()
}
