package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/compare"
	"sasyncd/sync/engine"
)

// naming translates the names of groups. In the engine and between gateways a
// group has the name of the instance that sasyncd.conf follows. What is shown, and
// typed by an operator, is the group of carpd that moves that instance, so that
// both programs speak of the same thing. Where carpd does not elect, has not told
// yet, or has two followed instances in one group, the name of the instance is
// shown. Safe for concurrent use; a nil naming changes nothing.
type naming struct {
	followed []string // what sasyncd.conf follows

	mu     sync.RWMutex
	groups map[string]carpdGroup // by followed instance
}

// carpdGroup is a group of carpd and all its instances.
type carpdGroup struct {
	name      string
	instances []string
}

func newNaming(followed []string) *naming {
	return &naming{followed: followed, groups: make(map[string]carpdGroup)}
}

// learn notes which group of carpd moves a followed instance.
func (n *naming) learn(followed string, g *api.GroupState) {
	c := carpdGroup{name: g.Group}
	for _, i := range g.Instances {
		c.instances = append(c.instances, i.Name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups[followed] = c
}

// shown returns the name that is shown for a followed instance; other names stay.
func (n *naming) shown(name string) string {
	if n == nil {
		return name
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.shownLocked(name)
}

func (n *naming) shownLocked(name string) string {
	g, ok := n.groups[name]
	if !ok || g.name == "" {
		return name
	}
	for _, other := range n.followed {
		if other != name && (other == g.name || n.groups[other].name == g.name) {
			return name
		}
	}
	return g.name
}

// instances returns the instances that move with a followed one, which is among them.
func (n *naming) instances(name string) []string {
	if n != nil {
		n.mu.RLock()
		defer n.mu.RUnlock()
		if g, ok := n.groups[name]; ok {
			return slices.Clone(g.instances)
		}
	}
	if name == "" {
		return []string{}
	}
	return []string{name}
}

// find returns the followed instance that an operator means by operand: the name
// that is shown, or else an instance or a group of carpd that belongs to one only.
// all are the names that the engine has.
func (n *naming) find(operand string, all []string) (string, error) {
	var titles, exact, loose []string
	for _, name := range all {
		titles = append(titles, daemon.GroupTitle(n.shown(name), n.instances(name)))
		switch {
		case operand == name || operand == n.shown(name):
			exact = append(exact, name)
		case slices.Contains(n.instances(name), operand) || operand == n.group(name):
			loose = append(loose, name)
		}
	}
	found := exact
	if len(found) == 0 {
		found = loose
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("no such group: %s: want one of %s", operand, strings.Join(titles, ", "))
	}
	return "", daemon.Bad("%s is ambiguous: it could be %s", operand, strings.Join(found, " or "))
}

// group returns carpd's group of a followed instance, "" if it is not known.
func (n *naming) group(name string) string {
	if n == nil {
		return ""
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.groups[name].name
}

// status returns a status of the engine with the names that are shown.
func (n *naming) status(s engine.Status) engine.Status {
	s.Groups = slices.Clone(s.Groups)
	for i := range s.Groups {
		g := &s.Groups[i]
		g.Followed, g.Instances = g.Name, n.instances(g.Name)
		g.Name = n.shown(g.Followed)
	}
	return s
}

// over returns a source of a status with the names that are shown.
func (n *naming) over(f func(context.Context) (engine.Status, error)) func(context.Context) (engine.Status, error) {
	return func(ctx context.Context) (engine.Status, error) {
		s, err := f(ctx)
		return n.status(s), err
	}
}

// verdict returns a verdict with the names that are shown.
func (n *naming) verdict(v report.Verdict) report.Verdict {
	for _, list := range []*[]report.Problem{&v.Reasons, &v.Warnings} {
		*list = slices.Clone(*list)
		for i := range *list {
			(*list)[i].Group = n.shown((*list)[i].Group)
		}
	}
	return v
}

// seen returns what is seen of members with the names that are shown here.
func (n *naming) seen(list []report.Seen) []report.Seen {
	list = slices.Clone(list)
	for i := range list {
		list[i].Roles = slices.Clone(list[i].Roles)
		for j := range list[i].Roles {
			list[i].Roles[j].Group = n.shown(list[i].Roles[j].Group)
		}
	}
	return list
}

// roles returns roles by the names that are shown.
func (n *naming) roles(by map[string]string) map[string]string {
	out := make(map[string]string, len(by))
	for name, role := range by {
		out[n.shown(name)] = role
	}
	return out
}

// plan returns a plan with the names that are shown.
func (n *naming) plan(p report.Plan) report.Plan {
	p.Handovers = slices.Clone(p.Handovers)
	for i := range p.Handovers {
		h := &p.Handovers[i]
		h.Group, h.Check = n.shown(h.Group), n.verdict(h.Check)
	}
	return p
}

// differences returns differences with the names that are shown.
func (n *naming) differences(list []compare.Difference) []compare.Difference {
	for i := range list {
		list[i].Group = n.shown(list[i].Group)
	}
	return list
}

// log returns a handler whose lines have the names that are shown in the attribute
// group.
func (n *naming) log(next slog.Handler) slog.Handler {
	if n == nil {
		return next
	}
	return &shownNames{next, n}
}

type shownNames struct {
	slog.Handler
	names *naming
}

// Handle implements slog.Handler.
func (h *shownNames) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(h.attr(a))
		return true
	})
	return h.Handler.Handle(ctx, out)
}

// WithAttrs implements slog.Handler.
func (h *shownNames) WithAttrs(as []slog.Attr) slog.Handler {
	as = slices.Clone(as)
	for i, a := range as {
		as[i] = h.attr(a)
	}
	return &shownNames{h.Handler.WithAttrs(as), h.names}
}

// WithGroup implements slog.Handler.
func (h *shownNames) WithGroup(name string) slog.Handler {
	return &shownNames{h.Handler.WithGroup(name), h.names}
}

func (h *shownNames) attr(a slog.Attr) slog.Attr {
	if a.Key == "group" && a.Value.Kind() == slog.KindString {
		return slog.String(a.Key, h.names.shown(a.Value.String()))
	}
	return a
}
