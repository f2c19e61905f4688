package daemon

import "strings"

// GroupTitle is how both control programs print a group: its name, and those of
// its instances where they are others.
func GroupTitle(group string, instances []string) string {
	if len(instances) == 0 || len(instances) == 1 && instances[0] == group {
		return group
	}
	return group + " (" + strings.Join(instances, ", ") + ")"
}
