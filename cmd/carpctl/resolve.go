package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/cmd/internal/daemon"
)

// resolve returns the group that an operator means: by its name, or by that of one
// of its instances.
func resolve(operand string, groups []api.GroupState) (api.GroupState, error) {
	var found []api.GroupState
	var titles, names []string
	for i := range groups {
		g := &groups[i]
		titles = append(titles, title(g))
		if g.Group == operand || g.HasInstance(operand) {
			found, names = append(found, *g), append(names, g.Group)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return api.GroupState{}, &api.RequestError{Text: fmt.Sprintf("no such group: %s: want one of %s", operand,
			strings.Join(titles, ", "))}
	}
	return api.GroupState{}, &api.RequestError{Text: fmt.Sprintf("%s is ambiguous: it belongs to the groups %s", operand,
		strings.Join(names, " and "))}
}

// title is the name of a group, and its instances where they have other names.
func title(g *api.GroupState) string {
	names := make([]string, 0, len(g.Instances))
	for _, i := range g.Instances {
		names = append(names, i.Name)
	}
	return daemon.GroupTitle(g.Group, names)
}

// isNotMaster reports whether carpd refuses a request because it is not MASTER.
func isNotMaster(err error) bool {
	var no *api.RequestError
	return errors.As(err, &no) && no.Text == carp.ErrNotMaster.Error()
}

// elsewhere says that this gateway is not MASTER of a group, and which one is. A master
// counts while its silence is shorter than what would make this gateway take over.
func elsewhere(g *api.GroupState) string {
	var masters []netip.Addr
	var heard []string
	for _, in := range g.Instances {
		for _, r := range in.Routers {
			if r.State != api.StateBackup || !r.Peer.IsValid() || r.HeardMS >= r.DownMS || slices.Contains(masters, r.Peer) {
				continue
			}
			masters = append(masters, r.Peer)
			age := time.Duration(r.HeardMS) * time.Millisecond
			heard = append(heard, fmt.Sprintf("%s (%s, %.1f s ago)", r.Peer, in.Name, age.Seconds()))
		}
	}
	if len(heard) == 0 {
		return fmt.Sprintf("this gateway is not MASTER of %s, and it hears none\n  remedy: see `carpctl doctor`", g.Group)
	}
	return fmt.Sprintf("this gateway is not MASTER of %s; it hears the MASTER as %s\n"+
		"  remedy: run `carpctl resign %[1]s` there", g.Group, strings.Join(heard, ", "))
}
