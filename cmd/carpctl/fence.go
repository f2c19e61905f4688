package main

import (
	"context"
	"sync"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
)

// fence takes part in changes of role: before this node takes the addresses
// because no master is heard, a program makes sure that none is there (it cuts
// its power, or shuts its ports). Only if it succeeds, within prepare-timeout,
// does the node go on; otherwise carpd gives up and tries again. Changes that
// the master has agreed to are not its business.

// notifyFence is the state that the program is told.
const notifyFence = "FENCE"

// prepared is how a fencer answers.
type prepared func(ctx context.Context, group string, term uint64) error

// fence follows the group until ctx ends.
func (n *notifier) fence(ctx context.Context) error {
	client := api.NewClient(api.ClientConfig{Socket: n.socket, Name: carp.FenceClient, Groups: []string{n.group},
		Prepare: true, Log: n.log})
	go func() { _ = client.Run(ctx) }() // it ends with ctx, and so do the events
	n.guard(ctx, client.Events(), client.Prepared)
	return nil
}

// guard answers events until they end. A program that is under way is ended when
// its answer does not matter any more.
func (n *notifier) guard(ctx context.Context, events <-chan api.Message, answer prepared) {
	var running sync.WaitGroup
	defer running.Wait()
	end := context.CancelFunc(func() {})
	defer func() { end() }()
	var vips []string
	for m := range events {
		switch m.Event {
		case api.EventState:
			n.known.Store(&m.State.Group)
			vips = noticeOf(m.State).vips
		case api.EventCancel, api.EventDisconnected:
			end()
		case api.EventPrepare:
			end()
			if !silent(m) {
				n.say(ctx, answer, m)
				continue
			}
			limited, cancel := context.WithTimeout(ctx, m.For())
			end = cancel
			running.Go(func() {
				began := time.Now()
				err := n.run(limited, notice{state: notifyFence, reason: m.Reason, term: m.Term, vips: vips})
				if err != nil {
					n.log.Error("the old master may be alive: the program failed", "group", n.name(),
						"reason", m.Reason, "term", m.Term, "program", n.argv[0], "err", err)
					return
				}
				n.log.Info("the old master is silenced", "group", n.name(), "reason", m.Reason, "term", m.Term,
					"took", time.Since(began))
				n.say(limited, answer, m)
			})
		}
	}
}

// silent reports whether a change comes from silence alone.
func silent(m api.Message) bool {
	return m.To == api.StateMaster && (m.Reason == carp.ReasonTimedOut || m.Reason == carp.ReasonNobody)
}

func (n *notifier) say(ctx context.Context, answer prepared, m api.Message) {
	if err := answer(ctx, m.Group, m.Term); err != nil {
		n.log.Error("answering carpd failed", "group", n.name(), "err", err)
	}
}
