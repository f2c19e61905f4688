package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"sasyncd/carp/api"
)

// show prints the groups for people.
func show(out io.Writer, groups []api.GroupState, verbose bool) error {
	var b strings.Builder
	for i := range groups {
		group(&b, &groups[i], verbose)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func group(b *strings.Builder, g *api.GroupState, verbose bool) {
	fmt.Fprintf(b, "group %s: %s for %v (%s), term %d", g.Group, strings.ToUpper(g.State), age(g.AgeMS), g.Reason, g.Term)
	if g.Seen != g.Term {
		fmt.Fprintf(b, ", highest %d", g.Seen)
	}
	b.WriteString("\n")
	if g.Blocked != "" {
		fmt.Fprintf(b, "  would not take over: %s\n", g.Blocked)
	}
	for _, d := range g.Demotions {
		fmt.Fprintf(b, "  demoted by %d: %s", d.By, d.ID)
		if d.Reason != "" && d.Reason != d.ID {
			fmt.Fprintf(b, " (%s)", d.Reason)
		}
		b.WriteString("\n")
	}
	if len(g.Clients) > 0 {
		fmt.Fprintf(b, "  clients: %s\n", strings.Join(g.Clients, " "))
	}
	for _, in := range g.Instances {
		var vips []string
		for _, v := range g.VIPs {
			if v.Instance == in.Name {
				vips = append(vips, v.Address.String())
			}
		}
		fmt.Fprintf(b, "  %s on %s: %s, %s id %d, %s\n", in.Name, in.Interface, strings.ToUpper(in.State), in.Protocol, in.ID, strings.Join(vips, " "))
		for _, r := range in.Routers {
			router(b, r, verbose)
		}
	}
}

func router(b *strings.Builder, r api.RouterState, verbose bool) {
	if r.Priority != 0 {
		fmt.Fprintf(b, "    %s priority %d", r.Family, r.Priority)
	} else {
		fmt.Fprintf(b, "    %s advbase %d advskew %d", r.Family, r.AdvBase, r.AdvSkew)
	}
	switch {
	case r.Peer.IsValid() && r.State != api.StateMaster:
		fmt.Fprintf(b, ", master %v heard %v ago", r.Peer, age(r.HeardMS))
	case r.Peer.IsValid():
		fmt.Fprintf(b, ", %v was master %v ago", r.Peer, age(r.HeardMS))
	}
	if r.Expired {
		b.WriteString(", hears no master")
	}
	if verbose {
		fmt.Fprintf(b, ", from %v, down after %v, sent %d, received %d, dropped %d", r.Source, age(r.DownMS), r.Sent, r.Received, r.Dropped)
	}
	b.WriteString("\n")
}

// age rounds to what a person wants to read.
func age(ms int64) time.Duration {
	d := time.Duration(ms) * time.Millisecond
	if d > 10*time.Second {
		return d.Round(time.Second)
	}
	return d
}
