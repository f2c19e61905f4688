package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
)

// failoversFile is the file of the state directory with the latest failovers.
const failoversFile = "failovers.json"

// failoverMemory keeps the latest failovers over a restart. The file is written in the
// background: on the way to a takeover nobody waits for it. It implements
// engine.Failovers.
type failoverMemory struct {
	path string
	log  *slog.Logger
	wake chan struct{}

	mu     sync.Mutex
	groups map[string][]engine.Failover
}

// openFailovers reads what is remembered in a state directory. What cannot be read is
// forgotten: it is for people only.
func openFailovers(dir string, log *slog.Logger) *failoverMemory {
	m := &failoverMemory{path: filepath.Join(dir, failoversFile), log: log, wake: make(chan struct{}, 1),
		groups: map[string][]engine.Failover{}}
	src, err := os.ReadFile(m.path)
	if err == nil {
		err = json.Unmarshal(src, &m.groups)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("failovers of before are forgotten", "err", err)
	}
	if err != nil || m.groups == nil {
		m.groups = map[string][]engine.Failover{}
	}
	return m
}

// Failovers implements engine.Failovers.
func (m *failoverMemory) Failovers(group string) []engine.Failover {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.groups[group])
}

// SetFailovers implements engine.Failovers.
func (m *failoverMemory) SetFailovers(group string, list []engine.Failover) {
	m.mu.Lock()
	m.groups[group] = list
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run writes what is new until ctx ends, and then what is still to be written.
func (m *failoverMemory) run(ctx context.Context) error {
	warned := false
	for ended := false; !ended; {
		select {
		case <-m.wake:
		case <-ctx.Done():
			ended = true
			select {
			case <-m.wake:
			default:
				return nil
			}
		}
		m.mu.Lock()
		groups := maps.Clone(m.groups)
		m.mu.Unlock()
		text, err := json.Marshal(groups)
		if err == nil {
			err = daemon.ReplaceFile(m.path, append(text, '\n'), false)
		}
		if err != nil && !warned {
			m.log.Warn("failovers are not kept over a restart", "err", err)
		}
		warned = err != nil
	}
	return nil
}

// last answers sasyncctl last.
func (k *control) last(ctx context.Context, c *daemon.Call) (any, error) {
	var args struct {
		Group string `json:"group"` // "" for all
	}
	if err := c.Decode(&args); err != nil {
		return nil, err
	}
	list, err := k.eng.Failovers(ctx)
	if err != nil {
		return nil, err
	}
	if args.Group != "" {
		var names []string
		for _, g := range list {
			names = append(names, g.Group)
		}
		if args.Group, err = k.names.find(args.Group, names); err != nil {
			return nil, err
		}
		list = slices.DeleteFunc(list, func(g engine.GroupFailovers) bool { return g.Group != args.Group })
	}
	out := report.Last{Groups: []report.GroupLast{}}
	for _, g := range list {
		x := report.GroupLast{Group: k.names.shown(g.Group), Failovers: []report.Timeline{}}
		for _, f := range g.Past {
			x.Failovers = append(x.Failovers, report.NewTimeline(f))
		}
		out.Groups = append(out.Groups, x)
	}
	return out, nil
}

// tunnels answers sasyncctl top.
func (k *control) tunnels(ctx context.Context, _ *daemon.Call) (any, error) {
	list, err := k.eng.Tunnels(ctx, report.TunnelsMost)
	for i := range list {
		list[i].Group = k.names.shown(list[i].Group)
	}
	return report.Tunnels{Tunnels: list}, err
}

// gapOf returns the gap of the takeover by which a group is MASTER, and carpd's steps of
// it. ok is false where it is not, or became it without one.
func gapOf(g *api.GroupState) (gap time.Duration, steps []engine.FailoverStep, ok bool) {
	t := g.Takeover
	if t == nil || g.State != api.StateMaster || t.AgeMS > g.AgeMS {
		return 0, nil, false
	}
	for _, s := range t.Steps {
		if name, known := stepNames[s.Step]; known {
			steps = append(steps, engine.FailoverStep{Step: name, After: s.After})
		}
	}
	return time.Duration(t.GapMS) * time.Millisecond, steps, true
}

// stepNames are the engine's names of carpd's steps.
var stepNames = map[string]string{api.StepDecided: engine.StepDecided, api.StepPrepared: engine.StepPrepared,
	api.StepAddresses: engine.StepAddresses, api.StepFence: engine.StepFence}
