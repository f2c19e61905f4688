package main

import (
	"fmt"
	"strings"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/daemon"
)

// resolve returns the group that an operator means: by its name, or by that of one
// of its instances.
func resolve(operand string, groups []api.GroupState) (string, error) {
	var found, titles []string
	for i := range groups {
		g := &groups[i]
		titles = append(titles, title(g))
		if g.Group == operand || g.HasInstance(operand) {
			found = append(found, g.Group)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", &api.RequestError{Text: fmt.Sprintf("no such group: %s: want one of %s", operand,
			strings.Join(titles, ", "))}
	}
	return "", &api.RequestError{Text: fmt.Sprintf("%s is ambiguous: it belongs to the groups %s", operand,
		strings.Join(found, " and "))}
}

// title is the name of a group, and its instances where they have other names.
func title(g *api.GroupState) string {
	names := make([]string, 0, len(g.Instances))
	for _, i := range g.Instances {
		names = append(names, i.Name)
	}
	return daemon.GroupTitle(g.Group, names)
}
